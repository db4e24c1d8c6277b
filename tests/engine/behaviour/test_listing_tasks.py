"""Pages of tasks, while they stand still and while they move; search."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from taskfleet import ConfigurationError, Retry, TaskInfo, TaskQueue, chain
from taskfleet import ids as task_ids
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.white_box import RawWorker


async def pages(queue: TaskQueue, name: str | None = "default", **options: Any) -> list[list[TaskInfo]]:
    """All pages of a listing."""
    found: list[list[TaskInfo]] = []
    cursor = None
    while True:
        page = await queue.list_tasks(name, cursor=cursor, **options)
        found.append(list(page.items))
        assert len(page.items) <= options.get("limit", 50)
        cursor = page.cursor
        if cursor is None:
            return found


async def ids(queue: TaskQueue, name: str | None = "default", **options: Any) -> list[str]:
    return [info.id for page in await pages(queue, name, **options) for info in page]


def define(queue: TaskQueue) -> Any:
    @queue.task(max_retries=1, retry=Retry.fixed(600))
    async def task(n: int = 0) -> int:
        if n < 0:
            raise ValueError(f"no luck with {n}")
        return n

    return task


async def test_every_state_is_listed_in_order_and_alone(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    task = define(queue)
    task_ids._after_fork()  # of equal length: equal times are sorted by text, where "10" is before "f"
    worker = await run_worker(queue)
    made = {
        "succeeded": [await task.enqueue(n) for n in range(3)],
        "failed": [await task.options(max_retries=0).enqueue(-1) for _ in range(3)],
        "retrying": [await task.enqueue(-2) for _ in range(3)],
    }
    for state, handles in made.items():
        for handle in handles:
            await until(lambda handle=handle, state=state: _is(handle, state), f"it is {state}")
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    raw = RawWorker(queue, "w", lease_ms=60_000)
    raw.options = queue.application.options_of("default")
    running = [await task.enqueue(n) for n in range(3)]
    running += [await task.options(limit_key="k").enqueue() for _ in range(3)]
    await raw.step(9)
    made["running"] = running[:4]
    made["delayed"] = [await task.options(delay=600 + n).enqueue() for n in range(3)] + running[4:]
    made["ready"] = [await task.enqueue(n) for n in range(3)]
    ends = [await queue.enqueue(chain(task.message(), task.message())) for _ in range(3)]
    made["blocked"] = ends
    dropped = await task.enqueue()
    await dropped.cancel()
    made["cancelled"] = [dropped]
    firsts = {info.waits_for[0] for info in [await end.info() for end in ends]}
    for state, handles in made.items():
        expected = [handle.id for handle in handles] + (sorted(firsts) if state == "ready" else [])
        for limit in (2, 50):
            found = await ids(queue, state=state, limit=limit)
            if state in ("succeeded", "cancelled", "blocked", "running", "failed"):
                assert sorted(found) == sorted(expected), state
            elif state == "ready":
                assert (found[:3], sorted(found[3:])) == (expected[:3], expected[3:]), state
            else:
                assert found == expected, state
    everything = [each.id for handles in made.values() for each in handles] + list(firsts)
    for limit in (3, 50, 1000):
        found = await ids(queue, limit=limit)
        assert sorted(found) == sorted(everything)
        assert sorted(found[:4]) == sorted(handle.id for handle in made["running"]), "running ones come first"
    assert await ids(queue, state="expired") == []
    assert (await queue.list_tasks("empty")).items == ()
    await queue.purge_dead("default")
    await raw.step(0, [(each.id, 1, "s", 0, b"", 0, 0) for each in made["running"]])
    await queue.purge("default")


async def _is(handle: Any, state: str) -> bool:
    return bool(await handle.status() == state)


async def test_a_listing_of_all_queues_and_partitions(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "wide", "partitions": 4}, "narrow"])
    task = define(queue)
    handles = [await task.options(queue="wide").enqueue(n) for n in range(25)]
    others = [await task.options(queue="narrow").enqueue(n) for n in range(5)]
    for limit in (4, 50):
        assert sorted(await ids(queue, "wide", limit=limit)) == sorted(each.id for each in handles)
        assert sorted(await ids(queue, None, limit=limit)) == sorted(each.id for each in [*handles, *others])
    for name in ("wide", "narrow"):
        await queue.purge(name)


async def test_tasks_are_listed_by_their_name(queue: TaskQueue) -> None:
    task = define(queue)

    @queue.task
    async def other() -> None: ...

    for n in range(30):
        await task.enqueue(n)
    rare = await other.enqueue()
    assert await ids(queue, task="other", limit=5) == [rare.id]
    assert await ids(queue, task="unheard_of") == []
    await queue.purge("default")


async def test_a_ready_task_that_stays_is_listed_once_while_the_head_is_taken(queue: TaskQueue) -> None:
    task = define(queue)
    handles = await queue.enqueue_many([task.message(n) for n in range(60)])
    worker = RawWorker(queue, "w", lease_ms=60_000)
    found: list[str] = []
    cursor, taken = None, 0
    while True:
        page = await queue.list_tasks("default", state="ready", limit=7, cursor=cursor)
        found += [info.id for info in page.items]
        cursor = page.cursor
        if cursor is None:
            break
        _, claims = await worker.step(3)
        taken += len(claims)
        await task.enqueue()
        await handles[59 - taken].cancel()
    stayed = [handle.id for handle in handles if await handle.status() == "ready"]
    assert [task_id for task_id in found if task_id in set(stayed)] == stayed, "once each, and in their order"
    running = [info.id for page in await pages(queue, state="running") for info in page]
    await worker.step(0, [(task_id, 1, "s", 0, b"", 0, 0) for task_id in running])
    await queue.purge("default")


@pytest.mark.parametrize("gone", ["the last one", "some before it"])
async def test_a_delayed_task_that_stays_is_listed_once_while_others_leave(queue: TaskQueue, gone: str) -> None:
    task = define(queue)
    # Many of them at the same time: then the order is that of the ids.
    handles = await queue.enqueue_many([task.options(delay=600).message(n) for n in range(40)])
    found: list[str] = []
    cursor = None
    while True:
        page = await queue.list_tasks("default", state="delayed", limit=6, cursor=cursor)
        found += [info.id for info in page.items]
        cursor = page.cursor
        if cursor is None:
            break
        leaving = found[-1:] if gone == "the last one" else found[-4:-1]
        for task_id in leaving:
            await queue.handle(task_id).cancel()
        await task.options(delay=1200).enqueue()
    stayed = {handle.id for handle in handles if await handle.status() == "delayed"}
    counts = [found.count(task_id) for task_id in stayed]
    assert counts == [1] * len(stayed)
    assert {handle.id for handle in handles} <= set(found)
    await queue.purge("default")


async def test_a_listing_beside_workers_shows_all_that_wait(queue: TaskQueue, run_worker: RunWorker) -> None:
    task = define(queue)
    waiting = await queue.enqueue_many([task.options(delay=600 + n).message(n) for n in range(100)])
    await run_worker(queue)
    stop = asyncio.Event()

    async def traffic() -> None:
        while not stop.is_set():
            await asyncio.gather(*(task.enqueue(n) for n in range(20)))

    moving = asyncio.create_task(traffic())
    try:
        for _ in range(3):
            found = await ids(queue, state="delayed", limit=9)
            assert sorted(found) == sorted(handle.id for handle in waiting)
    finally:
        stop.set()
        await moving
    await queue.purge("default")


async def test_search_finds_ids_names_arguments_and_errors(queue: TaskQueue, run_worker: RunWorker) -> None:
    task = define(queue)

    @queue.task
    async def send_mail(to: str, *, lines: list[str]) -> None: ...

    mail = await send_mail.options(delay=60).enqueue("Anna@example.com", lines=["Grüße"])
    failed = await task.options(max_retries=0).enqueue(-77)
    retrying = await task.enqueue(-88)
    for n in range(20):
        await task.options(delay=60).enqueue(n)
    await run_worker(queue)
    for handle, state in ((failed, "failed"), (retrying, "retrying")):
        await until(lambda handle=handle, state=state: _is(handle, state), f"it is {state}")

    async def search(text: str, *args: Any, **options: Any) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page = await queue.search_tasks(text, *args, cursor=cursor, **options)
            found += [info.id for info in page.items]
            cursor = page.cursor
            if cursor is None:
                return found

    assert await search("anna@EXAMPLE") == [mail.id]
    assert await search("grüße", "default") == [mail.id]
    assert await search("send_m") == [mail.id]
    assert await search("luck with -77") == [failed.id]
    assert sorted(await search("no luck")) == sorted([failed.id, retrying.id])
    assert await search("no luck", state="retrying") == [retrying.id]
    assert await search("task", task="send_mail") == []
    assert await search(mail.id) == [mail.id]
    assert len(await search(mail.id[:16])) == 23
    assert len(await search("task", limit=4)) == 22
    assert await search("task", "another") == []
    await queue.purge("default")


async def test_one_call_looks_at_a_bounded_number_of_tasks(queue: TaskQueue) -> None:
    task = define(queue)
    await queue.enqueue_many([task.options(delay=60).message(n) for n in range(2500)])
    page = await queue.list_tasks("default", task="another")
    assert (page.items, page.examined) == ((), 1000)
    calls = 1
    while page.cursor is not None:
        page = await queue.list_tasks("default", task="another", cursor=page.cursor)
        assert page.examined <= 1000
        calls += 1
    assert calls == 3
    await queue.purge("default")


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "%%%", base64.urlsafe_b64encode(b"[]").decode(), base64.urlsafe_b64encode(b"[1,2,3]").decode(), 7,
     base64.urlsafe_b64encode(json.dumps(["default", "task", None]).encode()).decode(),
     base64.urlsafe_b64encode(json.dumps(["a b", "ready", None]).encode()).decode(),
     base64.urlsafe_b64encode(json.dumps(["default", "ready", ["nan", ""]]).encode()).decode(),
     base64.urlsafe_b64encode(json.dumps(["default", "ready", ["inf", ""]]).encode()).decode(),
     base64.urlsafe_b64encode(b"[" * 100_000).decode()],
)  # fmt: skip
async def test_what_is_no_cursor_is_refused(queue: TaskQueue, cursor: Any) -> None:
    with pytest.raises(ConfigurationError, match="is no cursor of this listing"):
        await queue.list_tasks("default", cursor=cursor)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"state": "unknown"}, "state='unknown' is not known"), ({"state": "redy"}, "did you mean 'ready'"),
     ({"limit": 0}, "limit=0"), ({"limit": 1001}, "at most 1000"), ({"task": ""}, "task is ''"),
     ({"name": "a b"}, "queue name")],
)  # fmt: skip
async def test_wrong_arguments_are_one_line(queue: TaskQueue, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await queue.list_tasks(**options)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
