"""What the routes answer about a fleet that works."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet import QueueOptions, Retry, TaskQueue, chain, current_task
from tests.dashboard.conftest import MakeSite, Site
from tests.engine.conftest import MakeQueue, RunWorker, until


async def test_the_overview_has_queues_sums_workers_and_failures(
    queue: TaskQueue, run_worker: RunWorker, site: Site
) -> None:
    @queue.task(max_retries=0)
    async def fail(why: str) -> None:
        raise ValueError(why)

    @queue.task(queue="other")
    async def later() -> None: ...

    await run_worker(queue, queues=["default"])
    await later.enqueue()
    await fail.enqueue("no luck")

    async def shown() -> Any:
        found = await site.get("overview")
        # The failure is read before the sums that count it, and the heartbeat of before may still tell of its run.
        whole = found["totals"]["dead"] and found["workers"]["idle"] and found["totals"]["in_per_second"] is not None
        return found if found["failures"] and whole else None

    found = await until(shown, "the failure is shown", seconds=30)
    rows = {row["name"]: row for row in found["queues"]["items"]}
    assert set(rows) == {"default", "other"}
    assert (rows["other"]["ready"], rows["other"]["state"], rows["other"]["workers"]) == (1, "unserved", 0)
    assert (rows["default"]["dead"], rows["default"]["workers"]) == (1, 1)
    assert all(len(row["spark"]) == 60 for row in rows.values())
    assert found["totals"]["ready"] == 1
    assert found["totals"]["dead"] == 1
    assert found["workers"] | {"total": 1, "idle": 1, "busy": 0, "slots": 8} == found["workers"]
    (failure,) = found["failures"]
    assert (failure["task"], failure["queue"], failure["reason"]) == ("fail", "default", "exception")
    assert failure["error"] == "ValueError: no luck"
    assert datetime.fromisoformat(failure["at"]).tzinfo is not None
    assert found["scalers"] == []


async def test_queues_are_sorted_searched_and_paged_by_the_server(make_queue: MakeQueue, make_site: MakeSite) -> None:
    names = [f"q{n:02}" for n in range(12)]
    queue = make_queue(queues=names)
    for n, name in enumerate(names):

        @queue.task(name=f"t{n}", queue=name)
        async def task() -> None: ...

        for _ in range(n):
            await task.enqueue()
    site = await make_site(queue)
    found = await site.get("overview", sort="ready", limit=3, offset=1)
    assert [row["name"] for row in found["queues"]["items"]] == ["q10", "q09", "q08"]
    assert (found["queues"]["total"], found["queues"]["offset"]) == (12, 1)
    found = await site.get("overview", search="Q1")
    assert [row["name"] for row in found["queues"]["items"]] == ["q10", "q11"]
    assert (await site.client.get("/api/overview", params={"sort": "colour"})).status_code == 422


async def test_a_queue_that_no_reading_has_reached_is_read_and_not_told_as_empty(
    make_queue: MakeQueue, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskfleet.watching.reading._MOST_PARTITIONS", 8)
    queue = make_queue()
    for n in range(12):

        @queue.task(name=f"t{n}", queue=f"q{n:02}")
        async def task() -> None: ...

        await task.enqueue()
    site = await make_site(make_queue(), most_commands_per_second=20)  # no turn is free for seconds
    assert (await site.get("overview"))["unread"] > 0
    rows = await asyncio.gather(*(site.get(f"queues/q{n:02}") for n in (9, 10, 11)))
    assert [found["states"]["ready"] for found in rows] == [1, 1, 1]


async def test_a_queue_has_its_options_limits_and_states(make_queue: MakeQueue, make_site: MakeSite) -> None:
    options = QueueOptions("mail", concurrency=3, max_length=50, rate_limit={"tasks_per_second": 5, "burst": 5})  # type: ignore[arg-type]
    queue = make_queue(queues=[options])

    @queue.task(queue="mail")
    async def send(to: str) -> None: ...

    await send.enqueue("a")
    await send.options(delay=600).enqueue("b")
    site = await make_site(queue)
    found = await site.get("queues/mail")
    assert found["row"]["name"] == "mail"
    assert found["states"] == {"ready": 1, "running": 0, "delayed": 1, "parked": 0, "blocked": 0, "dead": 0}
    assert found["options"]["concurrency"] == 3
    assert {limit["name"]: (limit["limit"], limit["used"]) for limit in found["limits"]} == {
        "concurrency": (3, 0), "rate": (5, None), "length": (50, 2),
    }  # fmt: skip
    assert found["row"]["limits"] == "5/s 3 at once"
    assert found["partitions"] == [{"name": "mail", "ready": 1, "running": 0, "delayed": 1, "dead": 0}]
    assert await site.refused("queues/nowhere") == (404, "there is no queue 'nowhere'")
    status, line = await site.refused("queues/no spaces")
    assert status == 422
    assert "no spaces" in line


async def test_a_task_that_was_retried_has_its_life_on_a_line(
    queue: TaskQueue, run_worker: RunWorker, site: Site
) -> None:
    @queue.task(max_retries=1, retry=Retry.fixed(0.05))
    async def fragile(n: int, *, secret: str = "") -> None:
        raise RuntimeError(f"broken {n}")

    await run_worker(queue)
    handle = await fragile.enqueue(7, secret="<script>alert(1)</script>")

    async def ended() -> Any:
        found = await site.get(f"tasks/{handle.id}")
        return found if found["state"] == "failed" else None

    found = await until(ended, "the task has failed")
    assert [event["what"] for event in found["life"]] == ["enqueued", "attempt failed", "retry due", "ended"]
    times = [datetime.fromisoformat(event["at"]) for event in found["life"]]
    assert times == sorted(times)
    assert found["life"][1]["attempt"] == 1
    assert found["life"][-1]["attempt"] == 2
    assert json.loads(found["args"]) == [7]
    assert json.loads(found["kwargs"]) == {"secret": "<script>alert(1)</script>"}
    assert found["error"] == "RuntimeError: broken 7"
    assert "in fragile" in found["traceback"]
    assert [error["attempt"] for error in found["errors"]] == [1, 2]
    letter = await site.get(f"dead/{handle.id}")
    assert (letter["attempts"], letter["reason"]) == (2, "exception")
    assert datetime.fromisoformat(letter["died_at"]) == datetime.fromisoformat(letter["ended_at"])


async def test_a_running_task_shows_its_progress_and_its_worker(
    queue: TaskQueue, run_worker: RunWorker, site: Site
) -> None:
    going = asyncio.Event()

    @queue.task
    async def slow() -> str:
        await current_task().progress(3, 4, "three of four")
        await going.wait()
        return "done"

    await run_worker(queue)
    handle = await slow.enqueue()

    async def reported() -> Any:
        found = await site.get(f"tasks/{handle.id}")
        return found if found["progress"] and found["started_at"] else None

    found = await until(reported, "the progress is shown")
    assert (found["progress"]["fraction"], found["progress"]["note"]) == (0.75, "three of four")
    assert found["worker"].startswith("worker-")

    async def running() -> Any:
        rows = (await site.get("workers"))["items"]
        return [row for row in rows if row["id"] == found["worker"] and row["state"] == "running"]

    (row,) = await until(running, "the worker's heartbeat says that it runs")
    assert (row["slots"], row["queues"]) == (8, ["default"])

    async def runs() -> Any:
        await asyncio.sleep(0.2)
        return [run for each in (await site.get("workers"))["items"] for run in each["runs"]]

    (run,) = await until(runs, "the run is shown")
    assert (run["id"], run["task"], run["queue"]) == (handle.id, "slow", "default")
    going.set()
    assert await handle.result(30) == "done"
    found = await site.get(f"tasks/{handle.id}")
    assert (found["state"], found["result"]) == ("succeeded", '"done"')


async def test_tasks_are_listed_by_state_and_found_by_id_name_text_and_key(queue: TaskQueue, site: Site) -> None:
    @queue.task
    async def greet(name: str) -> None: ...

    @queue.task
    async def other(n: int) -> None: ...

    handles = [await greet.enqueue(f"person {n}") for n in range(5)]
    keyed = await other.options(limit_key="tenant-7").enqueue(1)
    page = await site.get("tasks", state="ready", limit=3)
    assert len(page["items"]) == 3
    rest = await site.get("tasks", state="ready", limit=3, cursor=page["cursor"])
    assert {row["id"] for row in page["items"] + rest["items"]} == {each.id for each in [*handles, keyed]}
    assert [row["id"] for row in (await site.get("tasks", q=handles[2].id))["items"]] == [handles[2].id]
    there = {"queue": "default", "state": "ready", "task": "other", "key": "tenant-7"}
    assert [row["id"] for row in (await site.get("tasks", q=keyed.id, **there))["items"]] == [keyed.id]
    for elsewhere in ({"queue": "mail"}, {"state": "dead"}, {"task": "greet"}, {"key": "tenant-8"}):
        assert (await site.get("tasks", q=keyed.id, **elsewhere))["items"] == []
    assert [row["id"] for row in (await site.get("tasks", q="PERSON 3"))["items"]] == [handles[3].id]
    assert [row["task"] for row in (await site.get("tasks", task="other"))["items"]] == ["other"]
    assert [row["id"] for row in (await site.get("tasks", key="tenant-7"))["items"]] == [keyed.id]
    assert (await site.refused("tasks", cursor="nonsense"))[0] == 422
    assert (await site.refused("tasks/none"))[0] == 404


async def test_a_page_of_many_queues_with_few_tasks_is_full(make_queue: MakeQueue, make_site: MakeSite) -> None:
    queue = make_queue()
    for n in range(60):

        @queue.task(name=f"t{n}", queue=f"q{n}")
        async def task() -> None: ...

        await task.enqueue()
    site = await make_site(make_queue())
    page = await site.get("tasks", limit=50)
    assert len(page["items"]) == 50
    rest = await site.get("tasks", limit=50, cursor=page["cursor"])
    assert len({row["id"] for row in page["items"] + rest["items"]}) == 60


async def test_a_workflow_is_walked_in_both_directions(queue: TaskQueue, site: Site) -> None:
    @queue.task
    async def first() -> int:
        return 1

    @queue.task
    async def second(n: int) -> int:
        return n

    @queue.task
    async def third(n: int) -> int:
        return n

    await queue.enqueue(chain(first.message(), second.message(), third.message()))  # type: ignore[call-arg]
    page = await site.get("tasks")
    ids = {row["task"]: row["id"] for row in page["items"]}
    assert set(ids) == {"first", "second", "third"}
    for start in ids.values():
        found = await site.get(f"tasks/{start}/graph")
        assert {node["id"]: node["task"] for node in found["nodes"]} == {v: k for k, v in ids.items()}
        waits = {(edge["from"], edge["to"]) for edge in found["edges"] if edge["kind"] == "waits"}
        assert waits == {(ids["first"], ids["second"]), (ids["second"], ids["third"])}
    assert (await site.refused("tasks/none/graph"))[0] == 404


async def test_a_long_workflow_is_walked_as_far_as_the_bound_and_says_so(
    queue: TaskQueue, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    @queue.task
    async def step(n: int = 0) -> int:
        return n

    await queue.enqueue(chain(*(step.message() for _ in range(6))))
    first = next(row["id"] for row in (await site.get("tasks", state="ready"))["items"])
    found = await site.get(f"tasks/{first}/graph")
    assert (len(found["nodes"]), found["whole"]) == (6, True)
    monkeypatch.setattr("taskfleet_dashboard.reading.graph._MOST_EXPANDED", 2)
    found = await site.get(f"tasks/{first}/graph")
    assert [node["state"] for node in found["nodes"]] == ["ready", "blocked", "unknown"]
    assert (len(found["edges"]), found["whole"]) == (2, False)
    monkeypatch.setattr("taskfleet_dashboard.reading.graph._MOST_EXPANDED", 25)
    monkeypatch.setattr("taskfleet_dashboard.reading.graph._MOST_NODES", 3)
    found = await site.get(f"tasks/{first}/graph")
    assert (len(found["nodes"]), len(found["edges"]), found["whole"]) == (3, 2, False)


async def test_schedules_tell_their_next_three_ticks_and_the_last_outcome(queue: TaskQueue, site: Site) -> None:
    @queue.task
    async def report() -> None: ...

    await queue.add_schedule(name="nightly", task="report", schedule="0 3 * * *", time_zone="Europe/Berlin")
    (row,) = (await site.get("schedules"))["items"]
    assert (row["name"], row["queue"], row["time_zone"], row["paused"]) == (
        "nightly",
        "default",
        "Europe/Berlin",
        False,
    )
    ticks = [datetime.fromisoformat(tick) for tick in row["next"]]
    assert len(ticks) == 3
    assert ticks[0] > datetime.now(UTC)
    assert all(
        timedelta(hours=23) <= later - earlier <= timedelta(hours=25) for earlier, later in itertools.pairwise(ticks)
    )
    sent = await site.post("schedules/default/nightly/run")
    assert (await site.get(f"tasks/{sent['detail']}"))["task"] == "report"
    assert (await site.post("schedules/default/nightly/pause"))["changed"]
    (row,) = (await site.get("schedules"))["items"]
    assert (row["paused"], row["next"]) == (True, [])
    await site.post("schedules/default/nightly/resume")
    (row,) = (await site.get("schedules"))["items"]
    assert len(row["next"]) == 3
    refused = await site.post("schedules/default/daily/run", status=404)
    assert refused["error"] == "no schedule is named 'daily' in queue 'default'"


@pytest.mark.parametrize("path", ["scalers/local/none", "explain/local/none", "scalers/local/none?span=24h"])
async def test_an_autoscaler_that_nobody_knows_is_not_found(site: Site, path: str) -> None:
    status, line = await site.refused(path)
    assert status == 404
    assert "local/none" in line


async def test_keys_of_all_queues_are_listed_the_heaviest_first(make_queue: MakeQueue, make_site: MakeSite) -> None:
    queue = make_queue()

    @queue.task
    async def work() -> None: ...

    for key, count in (("light", 1), ("heavy", 3)):
        for _ in range(count):
            await work.options(fair_key=key).enqueue()
    site = await make_site(queue)
    found = await site.get("keys")
    assert [(row["queue"], row["key"], row["waiting"]) for row in found["fair_keys"]] == [
        ("default", "heavy", 3), ("default", "light", 1),
    ]  # fmt: skip
    assert found["whole"]
    assert (await site.get("queues/default"))["keys"]["fair_keys"][0]["key"] == "heavy"
