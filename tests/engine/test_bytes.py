"""Calls are bounded in bytes: large data goes in several calls, and a call that Redis refuses for its size is split."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from taskfleet import PayloadTooLargeError, TaskExecutionError, TaskQueue, WorkerInfo, chord, group
from taskfleet.protocol import bounds, dead_record
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.test_sealing import push, settled
from tests.support.redis_server import RedisServer

MIB = 1_048_576
MB = 1_000_000


LOW_LIMITS = {"says so": ("--proto-max-bulk-len", "1mb"), "hangs up": ("--client-query-buffer-limit", "1mb")}


@pytest.fixture(scope="module", params=LOW_LIMITS.values(), ids=LOW_LIMITS)
def low_limits(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server with one of its limits at the lowest possible value."""
    with RedisServer(*request.param) as server:
        yield server


class Calls:
    """The sizes of outgoing messages, recorded in the one function that packs them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        from taskfleet.redis.held_connections import Lines

        calls, run_many = Lines.calls, RedisBroker._enqueue_plain

        def size_of(command: Any) -> int:
            return sum(len(part) for part in command if isinstance(part, (bytes, str)))

        async def counted(lines: Any, *commands: Any, timeout: float | None = None) -> Any:
            self.sizes.append(sum(map(size_of, commands)))
            return await calls(lines, *commands, timeout=timeout)

        async def counted_plain(broker: Any, queue: str, chunks: Any) -> None:
            self.sizes.append(sum(len(item[1]) for chunk in chunks for item in chunk))
            await run_many(broker, queue, chunks)

        monkeypatch.setattr(Lines, "calls", counted)
        monkeypatch.setattr(RedisBroker, "_enqueue_plain", counted_plain)

    @property
    def largest(self) -> int:
        return max(self.sizes)


async def test_large_results_that_end_together_are_recorded_in_several_calls(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(slots=100)
    together = asyncio.Event()
    waiting = 0

    @queue.task
    async def large(number: int) -> bytes:
        nonlocal waiting
        waiting += 1
        await together.wait()
        return bytes(MB)

    handles = await queue.enqueue_many([large.message(n) for n in range(100)])
    await run_worker(queue)
    await until(lambda: waiting == 100, "all run")
    calls = Calls(monkeypatch)
    together.set()
    for handle in handles:
        assert len(await handle.result(timeout=60)) == MB
    assert calls.largest <= bounds.CALL_BYTES + 2 * MIB


async def test_a_worker_whose_outcomes_wait_claims_nothing(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=20)
    most = 0

    @queue.task
    async def large(number: int) -> bytes:
        return bytes(MB)

    handles = await queue.enqueue_many([large.message(n) for n in range(120)])
    worker = await run_worker(queue)
    take = worker.outbox.take

    def taken(name: str) -> Any:
        nonlocal most
        most = max(most, sum(len(outcome[4]) for box in worker.outbox.values() for outcome in box))
        return take(name)

    worker.outbox.take = taken  # type: ignore[method-assign]
    for handle in handles:
        assert len(await handle.result(timeout=60)) == MB
    # Outcomes of ended tasks, and of tasks that were prefetched before.
    assert most <= (20 + 8 + 8) * MB + 8 * MIB


@pytest.mark.parametrize("partitions", [1, 4])
async def test_many_large_messages_cost_a_few_calls_worth_of_memory(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    queue = make_queue(queues=[{"name": "default", "partitions": partitions}])

    @queue.task
    async def large(data: bytes) -> None: ...

    data = bytes(MB)
    calls = Calls(monkeypatch)
    tracemalloc.start()
    handles = await queue.enqueue_many([large.message(data) for _ in range(300)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert calls.largest <= bounds.CALL_BYTES + MIB
    assert peak < 110 * MIB
    stats = await queue.queue_stats("default")
    assert stats.ready == len({handle.id for handle in handles}) == 300
    if partitions == 1:
        names = queue.broker.keys_of("default")
        ids = await queue.broker.client.redis.lrange(names.ready, 0, -1)
        assert [task_id.decode() for task_id in ids] == [handle.id for handle in handles]


async def test_a_full_queue_refuses_a_large_bulk_as_a_whole(make_queue: MakeQueue) -> None:
    from taskfleet import QueueFullError

    queue = make_queue(queues=[{"name": "default", "max_length": 50}])

    @queue.task
    async def large(data: bytes) -> None: ...

    data = bytes(MB)
    with pytest.raises(QueueFullError):
        await queue.enqueue_many([large.message(data) for _ in range(60)])
    assert (await queue.queue_stats("default")).ready == 0
    await queue.enqueue_many([large.message(data) for _ in range(50)])
    assert (await queue.queue_stats("default")).ready == 50


async def test_one_bad_message_among_large_ones_leaves_nothing_behind(make_queue: MakeQueue) -> None:
    from taskfleet import BulkEnqueueError

    queue = make_queue()

    @queue.task
    async def large(data: bytes) -> None: ...

    @queue.task(queue="other")
    async def other(data: bytes) -> None: ...

    data = bytes(MB)
    messages = [large.message(data) for _ in range(50)]
    messages.append(large.message(bytes(2 * MIB)))
    messages += [other.message(data) for _ in range(40)]
    with pytest.raises(BulkEnqueueError) as caught:
        await queue.enqueue_many(messages)
    assert [index for index, _ in caught.value.errors] == [50]
    assert (await queue.queue_stats("default")).ready == 0
    assert (await queue.queue_stats("other")).ready == 40


async def test_large_messages_sent_side_by_side_go_in_several_calls(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()

    @queue.task
    async def large(data: bytes) -> None: ...

    data = bytes(MB)
    calls = Calls(monkeypatch)
    await asyncio.gather(*(large.enqueue(data) for _ in range(60)))
    assert calls.largest <= bounds.CALL_BYTES + MIB
    assert (await queue.queue_stats("default")).ready == 60


async def test_a_workflow_of_large_messages_goes_in_several_calls(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()

    @queue.task
    async def size(data: bytes) -> int:
        return len(data)

    @queue.task
    async def total(sizes: list[int]) -> int:
        return sum(sizes)

    calls = Calls(monkeypatch)
    handle = await queue.enqueue(chord(group(*(size.message(bytes(MB)) for _ in range(30))), total.message()))
    await run_worker(queue)
    assert await handle.result(timeout=60) == 30 * MB
    assert calls.largest <= bounds.CALL_BYTES + MIB


# A Redis with lowered limits.


async def test_a_bulk_that_redis_refuses_for_its_size_is_taken_apart(
    make_queue: MakeQueue, low_limits: RedisServer
) -> None:
    queue = make_queue(low_limits.url)

    @queue.task
    async def middling(data: bytes) -> None: ...

    handles = await queue.enqueue_many([middling.message(bytes(300_000)) for _ in range(30)])
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.enqueued_total, len(handles)) == (30, 30, 30)
    await asyncio.gather(*(middling.enqueue(bytes(300_000)) for _ in range(10)))
    assert (await queue.queue_stats("default")).ready == 40


async def test_a_task_that_redis_refuses_for_its_size_is_its_callers_error_alone(
    make_queue: MakeQueue, low_limits: RedisServer
) -> None:
    queue = make_queue(low_limits.url, max_payload_bytes=2 * MIB)

    @queue.task
    async def any_size(data: bytes) -> None: ...

    calls = [any_size.enqueue(bytes(size)) for size in (100, MIB + 300, 200, 300_000, 300)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each).__name__ for each in ended].count("PayloadTooLargeError") == 1
    assert isinstance(ended[1], PayloadTooLargeError)
    assert "proto-max-bulk-len" in str(ended[1])
    assert "store the data elsewhere" in str(ended[1])
    assert (await queue.queue_stats("default")).ready == 4


async def test_results_that_redis_refuses_together_are_recorded_apart(
    make_queue: MakeQueue, run_worker: RunWorker, low_limits: RedisServer
) -> None:
    queue = make_queue(low_limits.url, slots=30)
    together = asyncio.Event()
    waiting = 0

    @queue.task
    async def middling(number: int) -> bytes:
        nonlocal waiting
        waiting += 1
        await together.wait()
        return bytes(300_000)

    handles = await queue.enqueue_many([middling.message(n) for n in range(30)])
    worker = await run_worker(queue)
    await until(lambda: waiting == 30, "all run")
    together.set()
    for handle in handles:
        assert len(await handle.result(timeout=60)) == 300_000
    assert worker.tally.lost_acks == 0


async def test_a_result_that_redis_refuses_alone_fails_its_task(
    make_queue: MakeQueue, run_worker: RunWorker, low_limits: RedisServer
) -> None:
    queue = make_queue(low_limits.url, max_result_bytes=2 * MIB)

    @queue.task(max_retries=0)
    async def of_size(size: int) -> bytes:
        return bytes(size)

    await run_worker(queue)
    small = await of_size.enqueue(10)
    large = await of_size.enqueue(MIB + 100)
    with pytest.raises(TaskExecutionError, match="proto-max-bulk-len"):
        await large.result(timeout=60)
    (letter,) = await queue.dead_letters("default")
    assert (letter.id, letter.state, letter.reason) == (large.id, "failed", "result_too_large")
    assert await small.result(timeout=60) == bytes(10)
    assert await (await of_size.enqueue(20)).result(timeout=60) == bytes(20)


# A claim larger than the limit of a reply.


async def test_a_task_that_no_reply_can_hold_does_not_keep_the_others_from_being_claimed(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    done: list[int] = []

    @queue.task
    async def work(number: int) -> None:
        done.append(number)

    await push(queue, "monster", bytes(70 * MIB))
    for number in range(20):
        await work.enqueue(number)
    await run_worker(queue)
    await settled(queue)
    assert sorted(done) == list(range(20))
    (letter,) = await queue.dead_letters("default")
    assert (letter.id, letter.state) == ("monster", "dead")
    assert await queue.purge_dead("default") == 1


# Records that are read page by page, and records that block others.


async def test_large_dead_letters_are_read_a_few_at_a_time(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()

    @queue.task(max_retries=0)
    async def fail(data: bytes) -> None:
        raise ValueError("no")

    data = bytes(MB)
    handles = await queue.enqueue_many([fail.message(data) for _ in range(80)])
    await run_worker(queue)
    await settled(queue)
    tracemalloc.start()
    letters = await queue.dead_letters("default", limit=70, cursor=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(letters) == 70
    assert {letter.id for letter in letters} < {handle.id for handle in handles}
    assert {(letter.task, letter.reason) for letter in letters} == {("fail", "exception")}
    assert peak < 40 * MIB


@pytest.mark.orphans("it writes records as other programs do")
async def test_one_dead_letter_that_is_too_large_spoils_only_itself(queue: TaskQueue) -> None:
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    small = msgpack.packb(
        [b"dead", 1, 1, 1e12, b"", dead_record.pack_failure("odd", "why", ""), b"", b""], use_bin_type=False
    )
    for n, letter in enumerate([small, bytes(70 * MIB), small, b"\x80" * MIB, small]):
        await redis.zadd(names.dead, {f"letter{n}": n})
        await redis.hset(names.letter, f"letter{n}", letter)
    letters = await queue.dead_letters("default")
    assert [letter.reason for letter in letters] == ["odd", "unreadable", "odd", "unreadable", "odd"]
    assert "bytes of one reply here" in letters[1].error


@pytest.mark.orphans("it writes records as other programs do")
async def test_one_heartbeat_that_is_too_large_hides_only_itself(queue: TaskQueue, run_worker: RunWorker) -> None:
    broker = queue.broker
    await run_worker(queue)
    for name, field in (("monster/0", "name"), ("large/0", "queues"), ("odd/0", "busy")):
        await broker.client.redis.zadd(broker.fleet.workers, {name: 1e15})
        await broker.client.redis.hset(
            broker.fleet.worker(name), field, bytes(70 * MIB if name[0] == "m" else 10 * MIB)
        )

    async def listed() -> list[WorkerInfo]:
        found = await broker.workers()
        return found if any(worker.name.startswith("worker-0") for worker in found) else []

    workers = await until(listed, "the worker has said that it is there")
    assert "monster/0" not in {worker.worker_id for worker in workers}


async def test_schedules_whose_tasks_are_large_tick_and_are_listed(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(scheduler={"tick_interval": 0.2})
    ran = 0

    @queue.task
    async def large(data: bytes) -> None:
        nonlocal ran
        ran += 1

    await queue.add_schedule(name="large0", every=3600, task=large, args=[bytes(MB)])
    names = queue.broker.keys_of("default").schedules
    redis = queue.broker.client.redis
    spec = await redis.hget(names.specs, "large0")
    for number in range(1, 75):
        await redis.hset(names.specs, f"large{number}", spec)
    # One schedule is too large to read, and one is damaged and due first.
    await redis.hset(names.specs, "monster", bytes(70 * MIB))
    await redis.hset(names.specs, "damaged", b"\x80" * MIB)
    await redis.zadd(names.ticks, {"damaged": 1, **{f"large{number}": number + 2 for number in range(75)}})
    assert {schedule.name for schedule in await queue.list_schedules()} == {f"large{number}" for number in range(75)}
    await queue.start_scheduler()
    await run_worker(queue)
    await until(lambda: ran == 75, "all have ticked", seconds=30)
    await queue.stop_scheduler()


async def test_signals_of_any_size_are_delivered(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=40)

    @queue.task(queue="before")
    async def large(number: int) -> bytes:
        return bytes(MB)

    @queue.task(queue="behind")
    async def total(parts: list[bytes]) -> int:
        return sum(map(len, parts))

    handle = await queue.enqueue(chord(group(*(large.message(n) for n in range(40))), total.message()))
    await run_worker(queue)
    assert await handle.result(timeout=60) == 40 * MB
