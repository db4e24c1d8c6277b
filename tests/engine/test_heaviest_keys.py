"""The limit keys and fair keys with the most tasks, found in bounded calls."""

from __future__ import annotations

import asyncio
import random

import pytest

from taskfleet import QueueOptions, TaskQueue
from taskfleet.history import KeyLoad, heaviest, heaviest_keys
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.calls import inspection
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.test_history import broker_of

LIMITED = [QueueOptions(name="default", concurrency_per_key=2)]


async def limited(queue: TaskQueue, run_worker: RunWorker, loads: dict[str, int]) -> None:
    """Tasks of limit keys: two of each run, and the others wait for their key."""

    @queue.task(name="holds")
    async def holds() -> None:
        await asyncio.Event().wait()

    await run_worker(queue, concurrency=2 * len(loads) + 2, queues=["default"])
    await queue.enqueue_many(
        [holds.options(limit_key=key).message() for key, count in loads.items() for _ in range(count)]
    )
    parked = sum(max(0, count - 2) for count in loads.values())

    async def settled() -> bool:
        stats = await queue.queue_stats("default")
        return (stats.parked, stats.ready) == (parked, 0)

    await until(settled, "two of each key run, and all others wait for their key")


async def test_limit_keys_are_told_with_what_waits_and_what_runs_the_heaviest_first(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=LIMITED, grace=0.1)
    await limited(queue, run_worker, {"acme": 9, "b": 3, "c odd": 4, "idle": 1, "ac": 2})
    found = await heaviest_keys(broker_of(queue), "default")
    assert found.limit_keys == [
        KeyLoad("acme", 7, 2),
        KeyLoad("c odd", 2, 2),
        KeyLoad("b", 1, 2),
        KeyLoad("ac", 0, 2),
        KeyLoad("idle", 0, 1),
    ]
    assert found.whole
    assert found.fair_keys == []
    assert (await heaviest_keys(broker_of(queue), "default", 2)).limit_keys == found.limit_keys[:2]


async def test_fair_keys_are_told_and_tasks_without_one_are_not(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[QueueOptions(name="default", partitions=3)])

    @queue.task
    async def noop() -> None: ...

    loads = {"a": 30, "b": 7, "c": 1}
    await queue.enqueue_many(
        [noop.options(fair_key=key).message() for key, count in loads.items() for _ in range(count)]
    )
    await queue.enqueue_many([noop.message() for _ in range(50)])
    found = await heaviest_keys(broker_of(queue), "default")
    assert found.fair_keys == [KeyLoad(key, count, 0) for key, count in loads.items()]
    assert (found.limit_keys, found.whole) == ([], True)


async def test_running_tasks_count_for_their_fair_key(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=["default"])

    @queue.task
    async def noop() -> None: ...

    for key in "aab":
        await noop.options(fair_key=key).enqueue()
    reply = await queue.broker.step(Partition("default"), QueueOptions("default"), "someone", 2, [])
    assert len(reply.claims) == 2
    found = await heaviest_keys(broker_of(queue), "default")
    assert sorted(found.fair_keys, key=lambda one: one.key) == [KeyLoad("a", 1, 1), KeyLoad("b", 0, 1)]


async def test_of_very_many_tasks_a_sample_tells_about_how_many_wait_and_says_so(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heaviest, "MOST_TASKS", 300)
    queue = make_queue(queues=["default"])

    @queue.task
    async def noop() -> None: ...

    keys = ["heavy"] * 600 + ["light"] * 60 + [f"one-{n}" for n in range(40)]
    random.Random(1).shuffle(keys)
    await queue.enqueue_many([noop.options(fair_key=key).message() for key in keys])
    found = await heaviest_keys(broker_of(queue), "default", 2)
    assert not found.whole
    assert found.fair_keys[0].key == "heavy"
    assert 450 < found.fair_keys[0].waiting < 700


async def test_very_many_limit_keys_are_looked_at_up_to_a_bound(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(queues=["default"])
    broker = broker_of(queue)
    names = broker.keys_of("default")
    members = {f"key-{n:05}\0{0:016}\0id-{n}": 0 for n in range(1200)}
    await broker.client.redis.zadd(names.parked, members)
    await broker.client.redis.hset(names.slots, mapping={f"key-{n:05}": 1 for n in range(1200)})
    page = await broker.call(inspection.limit_keys(names, b"key-00499", limit=2))
    assert [(one.key, one.waiting, one.running) for one in page] == [(b"key-00500", 1, 1), (b"key-00501", 1, 1)]
    assert (await heaviest_keys(broker, "default")).whole
    monkeypatch.setattr(heaviest, "MOST_KEYS", 500)
    found = await heaviest_keys(broker, "default", 5000)
    assert not found.whole
    assert 500 <= len(found.limit_keys) <= 1200
    await broker.client.redis.delete(names.parked, names.slots)


async def test_very_many_running_tasks_and_slots_are_looked_at_up_to_a_bound(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(queues=["default"])

    @queue.task
    async def noop() -> None: ...

    broker = broker_of(queue)
    names, redis = broker.keys_of("default"), broker.client.redis
    await queue.enqueue_many([noop.options(fair_key="a").message() for _ in range(5)])
    assert len((await queue.broker.step(Partition("default"), QueueOptions("default"), "someone", 5, [])).claims) == 5
    assert (await heaviest_keys(broker, "default")).fair_keys == [KeyLoad("a", 0, 5)]
    monkeypatch.setattr(heaviest, "MOST_TASKS", 4)
    found = await heaviest_keys(broker, "default")
    assert (found.fair_keys, found.whole) == ([KeyLoad("a", 0, 4)], False)

    monkeypatch.setattr(heaviest, "MOST_TASKS", 2000)
    monkeypatch.setattr(heaviest, "MOST_KEYS", 1000)
    await redis.hset(names.slots, mapping={f"key-{n:05}": 1 for n in range(20_000)})
    await redis.config_resetstat()
    assert not (await heaviest_keys(broker, "default")).whole
    assert (await redis.info("commandstats"))["cmdstat_hscan"]["calls"] < 10
    await redis.delete(names.slots)


@pytest.mark.orphans("another program writes into the structures")
async def test_what_another_program_has_written_breaks_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=["default"])
    broker = broker_of(queue)
    names = broker.keys_of("default")
    redis = broker.client.redis
    await redis.zadd(names.parked, {b"no nul": 0, b"\xff\0" + b"0" * 16 + b"\0id": 0, b"": 0})
    await redis.hset(names.slots, mapping={b"\xff": b"many", b"k": b"9" * 30, b"negative": b"-4"})
    await redis.zadd(names.fair, {b"\xff": 1, b"broken": 2, b"odd": 3})
    await redis.hset(names.tag, mapping={b"broken": b"\xc1", b"odd": b"\x81\xa1f\xc0"})
    found = await heaviest_keys(broker, "default")
    assert KeyLoad("\\xff", 1, 0) in found.limit_keys
    assert found.fair_keys == []
