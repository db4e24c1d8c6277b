"""Behaviour of Redis only: lost calls, lost replies, and keys that are left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis import exceptions as redis_exceptions

from taskfleet import TaskQueue, current_task
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import scripts
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.held_connections import Lines
from taskfleet.redis.scripts import Script
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer
from tests.support.white_box import RawWorker


async def test_concurrent_enqueues_share_calls(queue: TaskQueue) -> None:
    @queue.task
    async def task(n: int) -> None: ...

    await task.enqueue(0)
    redis = await queue.broker.client.redis_of(queue.broker.keys_of("default").wake)
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    handles = await asyncio.gather(*(task.enqueue(n) for n in range(500)))
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert len({handle.id for handle in handles}) == 500
    assert (await queue.queue_stats("default")).ready == 501
    assert after - before <= 5


async def test_after_a_drain_only_requested_data_is_kept(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(result_ttl=0)

    @queue.task(max_retries=1)
    async def task(n: int) -> None:
        if n % 7 == 0 and current_task().attempt == 1:
            raise ValueError

    await queue.enqueue_many([task.message(n) for n in range(300)])
    worker = await run_worker(queue)
    await until(lambda: _finished(queue, 300), "all have ended")
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    redis, prefix = queue.broker.client.redis, queue.broker.prefix
    left = sorted([key.decode().removeprefix(prefix) async for key in redis.scan_iter(match=f"{prefix}:*")])
    lasting = [key for key in left if await redis.pttl(prefix + key) == -1]  # -2: its time has just come
    assert set(lasting) <= {":queues", ":{default}:stat"}


async def _finished(queue: TaskQueue, count: int) -> bool:
    stats = await queue.queue_stats("default")
    return stats.finished_total == count and stats.in_flight == 0


async def runs_and_ends(queue: TaskQueue) -> None:
    """The first task runs and ends without a kept result."""
    options = queue.application.options_of("default")
    claimed = await queue.broker.step("default", options, "w", 1, [])
    await queue.broker.step("default", options, "w", 0, [(claimed.claims[0][1], 1, "s", 0, b"", 0, 0)])


@pytest.mark.parametrize("way", ["the shortest", "the ordinary"])
async def test_enqueue_whose_reply_was_lost_adds_once_even_when_the_task_has_ended(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    broker, sent = queue.broker, 0
    run, exchange = broker.client.run, Lines.exchange

    async def losing(script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        nonlocal sent
        reply = await run(script, keys, args)
        if script is scripts.ENQUEUE:
            sent += 1
            if sent == 1:
                # It ends before its sender learns that it arrived.
                await runs_and_ends(queue)
                raise redis_exceptions.ConnectionError("the reply is lost")
        return reply

    async def losing_exchange(self: Lines, packed: bytes, *args: Any) -> Any:
        nonlocal sent
        replies = await exchange(self, packed, *args)
        if scripts.ENQUEUE.digest.encode() in packed and not sent:
            sent += 1
            await runs_and_ends(queue)
            raise redis_exceptions.ConnectionError("the reply is lost")
        return replies

    if way == "the shortest":
        monkeypatch.setattr(Lines, "exchange", losing_exchange)
    else:
        monkeypatch.setattr(broker.client, "lines_at", lambda key: None)
    broker.client.run = losing  # type: ignore[method-assign]

    @queue.task
    async def task() -> None: ...

    task_id = (await task.enqueue()).id
    stats = await queue.queue_stats("default")
    assert sent == 2
    assert (stats.ready, stats.enqueued_total, stats.finished_total) == (0, 1, 1)
    assert await queue.handle(task_id).status() == "unknown"


async def test_tasks_claimed_by_a_call_without_a_reply_go_back_at_once(queue: TaskQueue, run_worker: RunWorker) -> None:
    broker, lost = queue.broker, 0

    def check(reply: Any) -> None:
        nonlocal lost
        if reply[4] and not lost:
            lost += 1
            raise redis_exceptions.ConnectionError("the reply is lost")

    run, pop_and_run = broker.client.run, broker.client.pop_and_run

    async def losing_run(script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        reply = await run(script, keys, args)
        if script is scripts.STEP:
            check(reply)
        return reply

    async def losing_pop(*args: Any) -> None:
        *others, arrived = args

        def checked(reply: Any) -> None:
            check(reply)
            arrived(reply)

        await pop_and_run(*others, checked)

    @queue.task
    async def task() -> tuple[int, int]:
        return current_task().attempt, current_task().delivery

    broker.client.run = losing_run  # type: ignore[method-assign]
    broker.client.pop_and_run = losing_pop  # type: ignore[method-assign]
    worker = await run_worker(queue)
    handle = await task.enqueue()
    assert await handle.result(timeout=25) == (1, 2)  # well within its lease of 30 s
    assert lost == 1
    assert worker.tally.lost_acks == 0


async def _one_task(queue: TaskQueue) -> str:
    @queue.task
    async def task() -> None: ...

    return (await task.enqueue()).id


@pytest.mark.parametrize("way", ["the shortest", "the ordinary"])
async def test_a_call_that_arrives_after_it_was_sent_again_adds_nothing(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    broker, delayed_call = queue.broker, list[Any]()
    run, exchange = broker.client.run, Lines.exchange

    async def losing_exchange(self: Lines, packed: bytes, *args: Any) -> Any:
        if scripts.ENQUEUE.digest.encode() in packed and not delayed_call:
            delayed_call.extend((self, packed, *args))
            raise redis_exceptions.ConnectionError("it is still on its way")
        return await exchange(self, packed, *args)

    async def arrives() -> Any:
        if way == "the shortest":
            return await exchange(*delayed_call)
        return await run(*delayed_call)

    async def losing(script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        if script is scripts.ENQUEUE and not delayed_call:
            delayed_call.extend((script, keys, args))
            raise redis_exceptions.ConnectionError("it is still on its way")
        return await run(script, keys, args)

    if way == "the shortest":
        monkeypatch.setattr(Lines, "exchange", losing_exchange)
    else:
        monkeypatch.setattr(broker.client, "lines_at", lambda key: None)
        broker.client.run = losing  # type: ignore[method-assign]
    task_id = await _one_task(queue)
    worker = RawWorker(queue, "w")
    await worker.step(1)
    await worker.step(0, [(task_id, 1, "s", 5, b"\x92\xa9succeeded\x01", 60_000, 0)])
    await arrives()  # after its second sending
    await _one_task(queue)
    await arrives()  # after the next call of the same sender
    assert (await queue.queue_stats("default")).enqueued_total == 2


async def test_a_forked_process_does_not_count_on_under_the_names_of_its_parent(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _one_task(queue)
    senders = queue.broker._free_senders
    before = {sender.name for free in senders.values() for sender in free}
    monkeypatch.setattr("os.getpid", lambda: -1)
    await _one_task(queue)
    assert len({sender.name for free in senders.values() for sender in free} - before) == 1


async def test_bulk_calls_whose_replies_were_lost_add_each_task_once_and_in_order(queue: TaskQueue) -> None:
    broker, sent = queue.broker, 0
    assert isinstance(broker, RedisBroker)
    run_many = broker.client.run_many

    async def losing(script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        nonlocal sent
        sent += 1
        if script is scripts.ENQUEUE and sent == 1:
            await run_many(script, calls[:3])  # the connection breaks half-way
            raise redis_exceptions.ConnectionError("the replies are lost")
        return await run_many(script, calls)

    @queue.task
    async def task(n: int) -> None: ...

    broker.client.run_many = losing  # type: ignore[method-assign]
    handles = await queue.enqueue_many([task.message(n) for n in range(6500)])
    assert sent >= 2
    listed = await broker.client.redis.lrange(broker.keys_of("default").ready, 0, -1)
    assert [task_id.decode() for task_id in listed] == [handle.id for handle in handles]


async def test_a_bulk_call_that_was_refused_alone_is_not_taken_for_a_late_copy_of_those_behind_it(
    queue: TaskQueue,
) -> None:
    broker, sent = queue.broker, 0
    assert isinstance(broker, RedisBroker)
    run_many = broker.client.run_many

    async def refusing(script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        nonlocal sent
        sent += 1
        if sent == 1:
            await run_many(script, calls[1:])
            raise redis_exceptions.ConnectionError("the first was refused, the others arrived")
        return await run_many(script, calls)

    @queue.task
    async def task(n: int) -> None: ...

    broker.client.run_many = refusing  # type: ignore[method-assign]
    handles = await queue.enqueue_many([task.message(n) for n in range(4500)])
    assert sent == 2
    listed = await broker.client.redis.lrange(broker.keys_of("default").ready, 0, -1)
    assert sorted(task_id.decode() for task_id in listed) == sorted(handle.id for handle in handles)


@pytest.mark.parametrize("pause", [True, False], ids=["after a rest", "at once"])
async def test_long_tasks_behind_short_ones_do_not_wait_in_a_full_worker(
    queue: TaskQueue, run_worker: RunWorker, pause: bool
) -> None:
    release = asyncio.Event()

    @queue.task
    async def short() -> None: ...

    @queue.task
    async def hold() -> None:
        await release.wait()

    worker = await run_worker(queue, concurrency=4)
    await queue.enqueue_many([short.message() for _ in range(20_000)])
    if pause:

        async def done() -> bool:
            return (await queue.queue_stats("default")).finished_total == 20_000

        await until(done, "the short ones are done", seconds=60)
    await queue.enqueue_many([hold.message() for _ in range(300)])
    await until(
        lambda: (
            len(worker.slots.running) == 4 and all(j.definition.name == "hold" for j in worker.slots.running.values())
        ),
        "it is full of long ones",
        seconds=60,
    )
    other = await run_worker(queue, concurrency=4)
    await until(lambda: len(other.slots.running) == 4, "the other one has work")
    await until(lambda: len(worker.held) == 4, "nothing waits in the first")
    release.set()


async def test_tasks_that_are_not_short_are_claimed_once_each(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def nap() -> int:
        await asyncio.sleep(0.06)
        return current_task().delivery

    await run_worker(queue, concurrency=4)
    handles = await queue.enqueue_many([nap.message() for _ in range(60)])
    assert [await handle.result(timeout=25) for handle in handles] == [1] * 60


async def test_the_turns_that_are_over_are_cleared_a_few_with_each_claim(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    keys = 30
    await queue.enqueue_many([task.options(fair_key=f"customer-{n}").message() for n in range(keys)])
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    turns, worker = broker.keys_of(Partition("default")).turns, RawWorker(queue, "w")
    left = [await broker.client.redis.zcard(turns)]
    for _ in range(keys // 2):
        await worker.step(1)
        left.append(await broker.client.redis.zcard(turns))
    assert left == list(range(keys, -1, -2))


async def test_a_look_that_finds_nothing_costs_few_commands(server: RedisServer, make_queue: MakeQueue) -> None:
    worker = RawWorker(make_queue(server.url), "w")
    await worker.step(1)  # the script is loaded

    def commands() -> int:
        return sum(int(entry["calls"]) for name, entry in server.info("commandstats").items() if "info" not in name)

    before, looks = commands(), 100
    own = commands() - before  # those of a connection that asks
    before = commands()
    for _ in range(looks):
        await worker.step(1)
    assert commands() - before - own <= looks * 7  # the call of the script among them


@pytest.mark.parametrize("turns", range(0, 24, 2))
async def test_a_broker_that_is_closed_while_it_introduces_its_process_opens_no_connection_again(
    make_queue: MakeQueue, turns: int
) -> None:
    queue = make_queue()
    broker = RedisBroker.from_url(queue.url, prefix=queue.broker.prefix)
    broker.introduction.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    await broker.close()
    await asyncio.sleep(0.02)
    assert broker.descriptors() == []
