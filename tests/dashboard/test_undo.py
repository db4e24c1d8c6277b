"""Discards that end in the middle: whatever happens, what was deleted can be brought back for ten minutes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from taskfleet import TaskQueue, chain
from taskfleet.errors import BrokerConnectionError
from taskfleet_dashboard.changing import jobs
from tests.dashboard.conftest import MakeSite, Site
from tests.dashboard.test_changes import dead_ids, letters, outcomes
from tests.engine.conftest import RunWorker, until

__all__ = ["letters"]

ORDERS = [{"match": {}}, {"match": {"queue": "default"}}, "ids"]


def order_of(order: Any, letters: list[str]) -> Any:
    return {"queue": "default", "ids": letters} if order == "ids" else order


async def ended(site: Site, job: str, state: str) -> Any:
    async def found() -> Any:
        told = await site.get(f"jobs/{job}")
        return told if told["state"] == state else None

    return await until(found, f"the job is {state}")


@pytest.mark.parametrize("order", ORDERS)
async def test_a_discard_whose_dashboard_was_killed_in_the_middle_is_undone_by_another(
    queue: TaskQueue, site: Site, make_site: MakeSite, letters: list[str], order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker: Any = queue.broker
    discard, gone = broker.discard_letters, asyncio.Event()

    async def killed(*args: Any, **named: Any) -> Any:
        await discard(*args, **named)
        gone.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(broker, "discard_letters", killed)
    job = (await site.post("dead/discard", order_of(order, letters), status=202))["job"]
    await gone.wait()
    assert await dead_ids(site) == []
    monkeypatch.setattr(jobs, "_SILENT_SECONDS", 0.0)
    other = await make_site(queue)
    told = await ended(other, job, "failed")
    assert (told["undoable"], told["undo_until"] is not None) == (5, True)
    await other.post(f"jobs/{job}/undo")
    assert sorted(await dead_ids(site)) == sorted(letters)


@pytest.mark.parametrize("order", ORDERS)
async def test_a_discard_whose_answer_was_lost_can_be_undone(
    queue: TaskQueue, site: Site, letters: list[str], order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker: Any = queue.broker
    discard = broker.discard_letters

    async def lost(*args: Any, **named: Any) -> Any:
        await discard(*args, **named)
        raise BrokerConnectionError("the connection was lost")

    monkeypatch.setattr(broker, "discard_letters", lost)
    job = (await site.post("dead/discard", order_of(order, letters), status=202))["job"]
    assert (await ended(site, job, "failed"))["undoable"] == 5
    await site.post(f"jobs/{job}/undo")
    assert sorted(await dead_ids(site)) == sorted(letters)


@pytest.mark.parametrize("behind", [3600.0, -3600.0])
async def test_letters_are_held_by_the_clock_of_redis(
    queue: TaskQueue, site: Site, letters: list[str], behind: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            return time.time() - behind

    monkeypatch.setattr(jobs, "time", Clock)
    job = await site.job("discard", {"match": {}})
    broker: Any = queue.broker
    assert 500_000 < await broker.client.redis.pttl(broker.keys_of("default").held(job["job"])) <= 600_000
    await site.post(f"jobs/{job['job']}/undo")
    assert sorted(await dead_ids(site)) == sorted(letters)


async def test_a_discard_that_takes_long_holds_its_first_letters_as_long_as_its_last(
    queue: TaskQueue, site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "UNDO_SECONDS", 10.0)
    broker: Any = queue.broker
    discard = broker.discard_letters

    async def slow(partition: Any, ids: list[str], **named: Any) -> Any:
        named["room"] = 5
        first = await discard(partition, ids[:2], **named)
        await asyncio.sleep(5.2)  # both waits together are longer than letters are held, and each is seconds shorter
        second = await discard(partition, ids[2:], **named)
        await asyncio.sleep(5.2)
        return type(first)(*(a + b for a, b in zip(first, second, strict=True)))

    monkeypatch.setattr(broker, "discard_letters", slow)
    job = await site.job("discard", {"match": {}})
    assert job["undoable"] == 5
    await site.post(f"jobs/{job['job']}/undo")
    assert sorted(await dead_ids(site)) == sorted(letters)


async def test_discards_that_run_at_once_hold_no_more_together_than_one(
    queue: TaskQueue, site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_HELD", 2)
    broker: Any = queue.broker
    discard = broker.discard_letters

    async def slow(*args: Any, **named: Any) -> Any:
        await asyncio.sleep(0.3)  # in which the other jobs come as far as this one
        return await discard(*args, **named)

    monkeypatch.setattr(broker, "discard_letters", slow)
    orders = [{"queue": "default", "ids": letters[:2]}, {"queue": "default", "ids": letters[2:]}]
    await site.get("session")  # and its cookie, before two ask for one
    done = await asyncio.gather(*(site.job("discard", order) for order in orders))
    assert sum(each["done"] for each in done) == 5
    assert sum(each["undoable"] for each in done) == 2


async def test_a_task_that_is_in_the_queue_again_keeps_what_was_passed_on_to_it(
    queue: TaskQueue, site: Site, run_worker: RunWorker
) -> None:
    """Two people look at one page: the first requeues a letter, and the second discards the same."""
    fails = True

    @queue.task
    async def first() -> int:
        return 41

    @queue.task(max_retries=0)
    async def second(n: int) -> int:
        if fails:
            raise ValueError("not yet")
        return n + 1

    handle = await queue.enqueue(chain(first.message(), second.message()))  # type: ignore[call-arg]
    await run_worker(queue)

    async def dead() -> Any:
        return (await queue.queue_stats("default")).dead

    await until(dead, "the second is dead")
    await queue.pause("default")
    assert (await site.job("requeue", {"queue": "default", "ids": [handle.id]}))["done"] == 1
    late = await site.job("discard", {"queue": "default", "ids": [handle.id]})
    assert (late["done"], late["stayed"], late["undoable"]) == (0, 1, 0)
    broker: Any = queue.broker
    keys = broker.keys_of("default")
    # A stale entry that another program has left does not take it away, either.
    await broker.client.redis.zadd(keys.dead, {handle.id: 1})
    await queue.purge_dead("default")
    fails = False
    await queue.resume("default")
    assert await handle.result(timeout=30) == 42


async def test_changes_that_never_began_are_in_the_record_too(site: Site, letters: list[str]) -> None:
    await site.post("dead/discard", {"match": {"queue": "nowhere"}}, status=404)
    await site.post("dead/requeue", {"queue": "nowhere", "ids": ["a"]}, status=404)
    await site.post("jobs/none/undo", status=404)
    assert await outcomes(site) == [
        ("undo", "job none", "there is no job none; jobs are kept for an hour"),
        ("requeue", "dead letters of nowhere", "there is no queue 'nowhere'"),
        ("discard", "dead letters of nowhere", "there is no queue 'nowhere'"),
    ]


async def test_orders_that_come_at_once_start_no_more_jobs_than_may_run(
    site: Site, letters: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    going = asyncio.Event()

    async def wait(*_: Any) -> None:
        await going.wait()

    monkeypatch.setattr(site.serving.jobs, "_matching", wait)
    csrf = {"X-CSRF-Token": (await site.get("session"))["csrf"]}
    answers = await asyncio.gather(
        *(site.client.post("/api/dead/requeue", json={"match": {}}, headers=csrf) for _ in range(12))
    )
    assert sorted(each.status_code for each in answers) == [202] * 4 + [429] * 8
    going.set()
    await until(lambda: site.serving.jobs.running == 0, "the jobs end")
