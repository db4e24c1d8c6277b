"""Cordons by a person: what a worker does with them, that the control loops leave them alone, and the record."""

from __future__ import annotations

from taskfleet import TaskQueue
from taskfleet_dashboard.changing import changes
from tests.dashboard.conftest import Site
from tests.engine.conftest import RunWorker, until


async def test_a_cordoned_worker_claims_nothing_until_it_is_uncordoned(
    queue: TaskQueue, run_worker: RunWorker, site: Site
) -> None:
    @queue.task
    async def work() -> str:
        return "done"

    worker = await run_worker(queue)
    name = worker.identity.name
    assert (await site.post(f"workers/{name}/cordon"))["changed"] is True
    await until(lambda: worker.health.cordoned, "it is cordoned")
    waits = await work.enqueue()

    async def state() -> str:
        return next(row["state"] for row in (await site.get("workers"))["items"] if row["name"] == name)

    await until(lambda: _equals(state, "drained"), "it says that it is drained")
    assert (await waits.info()).state == "ready"
    # What a control loop does to cordons that it does not remember.
    await queue.broker.uncordon(name)
    assert (await site.post(f"workers/{name}/cordon"))["changed"] is True
    await until(lambda: worker.health.cordoned, "it still is")
    assert (await waits.info()).state == "ready"
    assert (await site.post(f"workers/{name}/uncordon"))["changed"] is True
    assert await waits.result(timeout=60) == "done"
    again = await site.post(f"workers/{name}/uncordon")
    assert (again["changed"], again["detail"][:22]) == (False, "nobody had cordoned it")
    recorded = [(row["action"], row["subject"], row["outcome"]) for row in (await site.get("audit"))["items"]]
    assert ("cordon", f"worker {name}", "done") in recorded
    assert ("uncordon", f"worker {name}", "done") in recorded


async def _equals(state: object, wanted: str) -> bool:
    return await state() == wanted  # type: ignore[operator,no-any-return]


async def test_a_cordon_ends_by_itself_and_a_mistyped_name_changes_nothing(
    queue: TaskQueue, run_worker: RunWorker, site: Site
) -> None:
    worker = await run_worker(queue)
    name = worker.identity.name
    refused = await site.post(f"workers/{name}x/cordon", status=404)
    assert refused["error"].startswith("there is no worker")
    broker = site.serving.desk.broker
    assert not await broker.client.redis.exists(broker.fleet.hold(f"{name}x"))
    await site.post(f"workers/{name}/cordon")
    assert 0 < await broker.client.redis.pttl(broker.fleet.hold(name)) <= changes.CORDON_SECONDS * 1000
    await site.post(f"workers/{name}/uncordon")
    assert (await site.get("audit"))["items"][-1]["outcome"].startswith("there is no worker")
