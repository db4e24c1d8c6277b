"""The figures of a Redis in which others write, that was emptied, or that an earlier version of Taskfleet has used."""

from __future__ import annotations

import time

import pytest

from taskfleet import TaskQueue
from taskfleet.errors import BrokerConnectionError
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import RunWorker, until
from tests.support.white_box import RawWorker


@pytest.fixture
def broker(queue: TaskQueue) -> RedisBroker:
    assert isinstance(queue.broker, RedisBroker)
    return queue.broker


@pytest.mark.orphans("it writes heartbeats of its own")
async def test_a_heartbeat_of_100_mb_hides_no_other_worker_and_no_queue(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker
) -> None:
    """One reply takes 64 MB at most: those who share it are read in smaller ones."""

    @queue.task
    async def task() -> None: ...

    worker = await run_worker(queue)
    await until(broker.workers, "its first heartbeat")
    await queue.pause("default")
    await task.enqueue()
    redis, now = broker.client.redis, time.time() * 1000
    others = {f"other-{n}/0": now for n in range(20)}
    await redis.zadd(broker.fleet.workers, {"evil/0": now, "odd/0": now, **others})
    for other in others:
        await redis.hset(broker.fleet.worker(other), mapping={"name": other.removesuffix("/0"), "slots": 1})
    await redis.hset(broker.fleet.worker("odd/0"), mapping={"name": "odd", "oldest_run_ms": "NaN"})
    for field in ("queues", "version"):
        await redis.hset(broker.fleet.worker("evil/0"), field, bytes(50 * 1_048_576))
    found = await broker.figures({"default": (0, 0)})
    assert {info.name for info in found.workers} == {worker.identity.name, *(f"other-{n}" for n in range(20))}
    assert found.skipped == 2
    assert found.stats["default"].ready == 1
    assert (await broker.figures({"default": (0, 0)})).skipped == 2  # of this reading, not of all
    await redis.unlink(broker.fleet.worker("evil/0"))
    await queue.resume("default")


@pytest.mark.orphans("it writes heartbeats of its own")
async def test_a_worker_of_an_earlier_version_tells_no_oldest_run(broker: RedisBroker) -> None:
    fields = {"name": "old", "slots": 4, "busy": 2, "queues": "default", "state": "running"}
    await broker.client.redis.zadd(broker.fleet.workers, {"old/0": time.time() * 1000})
    await broker.client.redis.hset(broker.fleet.worker("old/0"), mapping=fields)
    found = await broker.figures({})
    assert [(info.name, info.busy, info.oldest_run_seconds) for info in found.workers] == [("old", 2, 0.0)]
    assert found.skipped == 0


async def test_a_redis_that_comes_back_empty_shows_in_the_figures(queue: TaskQueue, broker: RedisBroker) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(3)])
    before = (await broker.figures({"default": (0, 0)})).stats["default"]
    assert (before.enqueued_total, before.runnable_total, before.ready) == (3, 3, 3)
    for key in [*broker.keys_of("default"), broker.fleet.queues]:
        await broker.client.redis.delete(key)
    after = (await broker.figures({"default": (0, 0)})).stats["default"]
    assert (after.enqueued_total, after.runnable_total, after.ready) == (0, 0, 0)


async def test_a_queue_of_an_earlier_version_counts_on_without_a_jump(queue: TaskQueue, broker: RedisBroker) -> None:
    """Its counters are the best guess, and workers of both versions move its delayed tasks."""

    @queue.task
    async def task() -> None: ...

    handles = await queue.enqueue_many([task.options(delay=3600).message() for _ in range(6)])
    names, redis = broker.keys_of("default"), broker.client.redis
    await redis.hset(names.stat, mapping={"enqueued": 100, "finished": 94, "retried": 5})
    await redis.hdel(names.stat, "deferred")

    async def counted() -> tuple[int, int]:
        stats = (await broker.figures({"default": (0, 0)})).stats["default"]
        return stats.runnable_total, stats.attempts_total

    assert await counted() == (100, 99)
    await redis.zadd(names.delayed, {handle.id: 1 for handle in handles[:2]})
    assert await counted() == (100, 99)  # no worker of this version has been here: they were counted when accepted
    await RawWorker(queue, "new").step(1)
    assert await counted() == (102, 99)
    await redis.zadd(names.delayed, {handle.id: 1 for handle in handles[2:4]})
    assert await counted() == (104, 99)  # overdue
    for handle in handles[2:4]:  # a worker of the earlier version moves them
        await redis.zrem(names.delayed, handle.id)
        await redis.rpush(names.ready, handle.id)
    assert await counted() == (104, 99)  # not backwards


@pytest.mark.orphans("it replaces keys as another program does")
@pytest.mark.parametrize("part", ["ready", "stat", "delayed", "lease", "ticks", "control"])
async def test_a_key_of_a_wrong_type_fails_the_figures_of_its_queue_alone(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Also in a queue of several partitions, of which one is broken."""
    redis = broker.client.redis
    await redis.sadd(broker.fleet.queues, "broken", "broken/1", "fine", *(f"other-{n}" for n in range(300)))
    key = f"{broker.prefix}:{{broken/1}}:{part}"
    await redis.set(key, "x")
    calls: list[object] = []
    run_each = broker.client.run_each
    monkeypatch.setattr(broker.client, "run_each", lambda *args: calls.append(args) or run_each(*args))
    horizons = {"broken": (0, 0), "fine": (0, 0), **{f"other-{n}": (0, 0) for n in range(300)}}
    found = await broker.figures(horizons)
    assert found.stats.keys() == horizons.keys() - {"broken"}
    (told,) = found.failures.values()
    assert f"key '{key}' holds a string" in str(told)
    assert len(calls) == 2, "one broken queue costs no further reading of the others"
    with pytest.raises(BrokerConnectionError, match="holds a string"):
        await broker.stats_many(["broken", "fine"])
    await redis.delete(key)
    assert not (await broker.figures(horizons)).failures


@pytest.mark.orphans("it writes heartbeats of its own")
async def test_a_heartbeat_of_a_wrong_type_hides_no_other(broker: RedisBroker) -> None:
    redis, now = broker.client.redis, time.time() * 1000
    await redis.zadd(broker.fleet.workers, {"odd/0": now, "good/0": now})
    await redis.set(broker.fleet.worker("odd/0"), "x")
    await redis.hset(broker.fleet.worker("good/0"), mapping={"name": "good", "slots": 1})
    found = await broker.figures({"default": (0, 0)})
    assert [info.name for info in found.workers] == ["good"]
    assert (found.skipped, found.failures) == (1, {})


@pytest.mark.orphans("it replaces keys as another program does")
@pytest.mark.parametrize("part", ["queues", "workers"])
async def test_a_key_of_the_whole_fleet_fails_all_queues_of_the_prefix_and_is_named(
    broker: RedisBroker, part: str
) -> None:
    key = str(getattr(broker.fleet, part))
    await broker.client.redis.set(key, "x")
    with pytest.raises(BrokerConnectionError, match=f"key '{key}' holds a string"):
        await broker.figures({"default": (0, 0)})
    await broker.client.redis.delete(key)
