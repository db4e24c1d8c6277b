"""Workflows whose first members have unique keys: they always end, and leave no keys behind."""

from __future__ import annotations

import asyncio

import pytest

from taskfleet import QueueOptions, TaskCancelledError, TaskQueue, chain, chord, group
from taskfleet.tasks.options import UniqueMode
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box

NAMES = ("default", "other", "other/1", "other/2")


@pytest.fixture(params=["plain", "signed", "two queues"])
def queue(request: pytest.FixtureRequest, make_queue: MakeQueue) -> TaskQueue:
    signed = {"signing_keys": ["a key of sixteen or more bytes"]} if request.param == "signed" else {}
    return make_queue(queues=[QueueOptions("default"), QueueOptions("other", partitions=3)], **signed)


@pytest.fixture
def other(queue: TaskQueue, request: pytest.FixtureRequest) -> str:
    """The queue of the later members."""
    return "other" if "two queues" in request.node.name else "default"


async def nothing_left(queue: TaskQueue) -> None:
    await until(lambda: _nothing_left(queue), "nothing is left behind")


async def _nothing_left(queue: TaskQueue) -> bool:
    return await white_box.left_behind(queue, *NAMES) == {}


async def test_a_second_chain_goes_on_from_the_task_that_has_the_key(
    queue: TaskQueue, other: str, run_worker: RunWorker
) -> None:
    ran: list[str] = []

    @queue.task(unique_key=lambda user: f"import:{user}")
    async def load(user: int) -> int:
        ran.append("load")
        return user * 2

    @queue.task(queue=other)
    async def report(count: int) -> str:
        ran.append("report")
        return f"{count} rows"

    alone = await load.enqueue(7)
    handles = [await queue.enqueue(chain(load.message(7), report.message())) for _ in range(3)]
    assert await handles[0].status() == "blocked"
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in handles] == ["14 rows"] * 3
    assert await alone.result(timeout=60) == 14
    assert sorted(ran) == ["load", "report", "report", "report"]
    await nothing_left(queue)


async def test_a_chain_joins_a_task_that_runs(queue: TaskQueue, other: str, run_worker: RunWorker) -> None:
    release, running = asyncio.Event(), asyncio.Event()

    @queue.task(unique_key="k")
    async def load() -> int:
        running.set()
        await release.wait()
        return 5

    @queue.task(queue=other)
    async def double(n: int) -> int:
        return 2 * n

    await run_worker(queue)
    first = await queue.enqueue(chain(load.message(), double.message(), double.message()))
    await asyncio.wait_for(running.wait(), 60)
    second = await queue.enqueue(chain(load.message(), double.message()))
    third = await double.options(after=[await load.enqueue()]).enqueue(1)
    release.set()
    assert [await handle.result(timeout=60) for handle in (first, second, third)] == [20, 10, 2]
    await nothing_left(queue)


async def test_groups_and_chords_take_the_holder_for_their_member(
    queue: TaskQueue, other: str, run_worker: RunWorker
) -> None:
    ran: list[int] = []

    @queue.task(unique_key=lambda n: f"n:{n}")
    async def load(n: int) -> int:
        ran.append(n)
        return n

    @queue.task(queue=other)
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task(queue=other)
    async def plain(n: int) -> int:
        return n

    held = await load.enqueue(1)
    gathered = await queue.enqueue(group(load.message(1), load.message(2), load.message(2)))
    summed = await queue.enqueue(chord([load.message(1), plain.message(10), load.message(2)], total.message()))
    nested = await queue.enqueue(chain(group(load.message(1), load.message(1), load.message(3)), total.message()))
    assert gathered.handles[0].id == held.id
    assert gathered.handles[1].id == gathered.handles[2].id
    await run_worker(queue)
    assert await gathered.result(timeout=60) == [1, 2, 2]
    assert (await summed.result(timeout=60), await nested.result(timeout=60)) == (13, 5)
    assert sorted(ran) == [1, 2, 3]
    await nothing_left(queue)


async def test_a_holder_that_fails_cancels_all_that_joined_it(
    queue: TaskQueue, other: str, run_worker: RunWorker
) -> None:
    @queue.task(unique_key="k", max_retries=0)
    async def load() -> int:
        raise ValueError("no")

    @queue.task(queue=other)
    async def report(n: int) -> int:
        return n

    ends = [await queue.enqueue(chain(load.message(), report.message())) for _ in range(2)]
    await run_worker(queue)
    for end in ends:
        with pytest.raises(TaskCancelledError, match="ValueError: no"):
            await end.result(timeout=60)
    await nothing_left(queue)


@pytest.mark.parametrize("mode", ["replace", "debounce"])
async def test_a_first_part_that_is_replaced_takes_its_chain_with_it(
    queue: TaskQueue, other: str, run_worker: RunWorker, mode: UniqueMode
) -> None:
    @queue.task(unique_key=lambda n: "k", unique_mode=mode, delay=0.01)
    async def load(n: int) -> int:
        return n

    @queue.task(queue=other)
    async def report(n: int) -> int:
        return n

    ends = [await queue.enqueue(chain(load.message(n), report.message(), report.message())) for n in range(3)]
    # This needs no worker.
    for end in ends[:2]:
        with pytest.raises(TaskCancelledError, match="replaced"):
            await end.result(timeout=60)
    await run_worker(queue)
    assert await ends[2].result(timeout=60) == 2
    await nothing_left(queue)


@pytest.mark.parametrize("mode", ["replace", "debounce"])
async def test_a_chain_comes_after_the_one_that_runs(
    queue: TaskQueue, other: str, run_worker: RunWorker, mode: UniqueMode
) -> None:
    release, running = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    @queue.task(unique_key=lambda n: "k", unique_mode=mode)
    async def load(n: int) -> int:
        running.set()
        await release.wait()
        order.append(f"load {n}")
        return n

    @queue.task(queue=other)
    async def report(n: int) -> int:
        return n

    await run_worker(queue)
    first = await queue.enqueue(chain(load.message(1), report.message()))
    await asyncio.wait_for(running.wait(), 60)
    second = await queue.enqueue(chain(load.message(2), report.message()))
    third = await queue.enqueue(chain(load.message(3), report.message()))
    release.set()
    with pytest.raises(TaskCancelledError, match="replaced"):
        await second.result(timeout=60)
    assert (await first.result(timeout=60), await third.result(timeout=60)) == (1, 3)
    assert order == ["load 1", "load 3"]
    await nothing_left(queue)


@pytest.mark.parametrize("mode", ["keep_existing", "replace", "debounce"])
async def test_a_keyed_task_may_wait_for_others_too(
    queue: TaskQueue, other: str, run_worker: RunWorker, mode: UniqueMode
) -> None:
    order: list[int] = []

    @queue.task(queue=other)
    async def before(n: int) -> int:
        order.append(n)
        return n

    @queue.task(unique_key=lambda n: "k", unique_mode=mode)
    async def keyed(n: int) -> int:
        order.append(n)
        return n

    @queue.task
    async def behind(n: int) -> int:
        return n

    gate = await before.options(delay=0.2).enqueue(0)
    first = await queue.enqueue(chain(keyed.options(after=[gate]).message(1), behind.message()))
    second = await queue.enqueue(chain(keyed.options(after=[gate]).message(2), behind.message()))
    await run_worker(queue)
    if mode == "keep_existing":
        assert (await first.result(timeout=60), await second.result(timeout=60)) == (1, 1)
    else:
        with pytest.raises(TaskCancelledError, match="replaced"):
            await first.result(timeout=60)
        assert await second.result(timeout=60) == 2
    assert order == [0, 1 if mode == "keep_existing" else 2]
    await nothing_left(queue)


async def test_a_holder_that_ends_while_the_chain_is_sent_is_no_holder(
    queue: TaskQueue, other: str, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    @queue.task(unique_key="k")
    async def load() -> int:
        return 1

    @queue.task(queue=other)
    async def report(n: int) -> int:
        return n

    waiting = await load.enqueue()
    find = queue.broker.holder
    told: list[str | None] = ["ended-just-now", None]  # ended before it is joined; not stored yet when it is looked up

    async def holder(place: str, key: str) -> str | None:
        return told.pop(0) if told else await find(place, key)

    monkeypatch.setattr(queue.broker, "holder", holder)
    end = await queue.enqueue(chain(load.message(), report.message()))
    assert not told
    await run_worker(queue)
    assert (await waiting.result(timeout=60), await end.result(timeout=60)) == (1, 1)
    await nothing_left(queue)


async def test_a_holder_without_a_kept_result_ends_the_chain(
    queue: TaskQueue, other: str, run_worker: RunWorker
) -> None:
    @queue.task(unique_key="k", result_ttl=0)
    async def load() -> int:
        return 1

    @queue.task(queue=other)
    async def report(n: int) -> int:
        return n

    await load.enqueue()
    end = await queue.enqueue(chain(load.message(), report.message()))
    await run_worker(queue)
    with pytest.raises(TaskCancelledError, match="result is not kept"):
        await end.result(timeout=60)
    # The first member of a chain passes its result on.
    assert await (await queue.enqueue(chain(load.message(), report.message()))).result(timeout=60) == 1
    await nothing_left(queue)
