"""The check after every engine test that no key is left in Redis without an owner or a time to live."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from taskfleet import QueueOptions, TaskQueue, chain
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.keys import QueueKeys
from tests.engine.conftest import MakeQueue
from tests.support.orphans import Watch
from tests.support.redis_server import RedisServer

Plant = Callable[[Any, QueueKeys], Awaitable[Any]]

PLANTED: dict[str, tuple[Plant, str]] = {
    "a key with a name of its own": (
        lambda redis, names: redis.set(f"{names.base}left-behind", "x"),
        "queue default: key left-behind",
    ),
    "a record of a task that has ended": (
        lambda redis, names: redis.hset(names.progress, "ended", "half done"),
        "queue default: progress of ended",
    ),
    "a task in a queue that is not registered": (
        lambda redis, names: redis.hset(names.task.replace("default", "elsewhere"), "t1", "envelope"),
        "queue elsewhere is not registered, and has task",
    ),
    "a lease of a task that has ended": (
        lambda redis, names: redis.zadd(names.lease, {"ended": 1}),
        "queue default: lease of ended",
    ),
    "the holder of a unique key that has ended": (
        lambda redis, names: redis.hset(names.unique, "customer-7", "ended"),
        "queue default: unique key customer-7",
    ),
    "a slot that no task holds": (
        lambda redis, names: redis.hset(names.slots, "customer-7", 1),
        "queue default: slots: 1 held, and 0 tasks run",
    ),
    "a mark that nobody knows": (
        lambda redis, names: redis.hset(names.control, "remember", 1),
        "queue default: control.remember",
    ),
    "a history that would stay for ever": (
        lambda redis, names: redis.set(names.history, "x"),
        "queue default: key history",
    ),
    "a key of the fleet": (
        lambda redis, names: redis.set(names.base.replace("default", "fleet") + "leader", "me"),
        "key {fleet}:leader",
    ),
}


@pytest.fixture
def orphans_of(server: RedisServer) -> Callable[[TaskQueue], list[str]]:
    def look(queue: TaskQueue) -> list[str]:
        watch = Watch()
        try:
            assert isinstance(queue.broker, RedisBroker)
            head = f"{queue.broker.prefix}: "
            return [orphan.removeprefix(head) for orphan in watch.orphans([server]) if orphan.startswith(head)]
        finally:
            watch.close()

    return look


@pytest.mark.orphans("it plants them")
@pytest.mark.parametrize(("plant", "expected"), PLANTED.values(), ids=PLANTED)
async def test_a_key_without_an_owner_is_found(
    queue: TaskQueue, orphans_of: Callable[[TaskQueue], list[str]], plant: Plant, expected: str
) -> None:
    @queue.task
    async def task() -> None: ...

    await task.enqueue()
    assert orphans_of(queue) == []
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    await plant(broker.client.redis, broker.keys_of("default"))
    assert orphans_of(queue) == [expected]


async def test_everything_that_has_an_owner_may_stay(
    make_queue: MakeQueue, orphans_of: Callable[[TaskQueue], list[str]]
) -> None:
    """Work in every state, and a key with a time to live."""
    queue = make_queue(queues=[{"name": "default", "concurrency_per_key": 1}])
    options = QueueOptions("default", concurrency_per_key=1)
    broker = queue.broker
    assert isinstance(broker, RedisBroker)

    @queue.task
    async def task() -> None: ...

    first, second = [await task.options(limit_key="customer-7").enqueue() for _ in range(2)]
    await task.options(fair_key="a", unique_key="only-one").enqueue()
    await task.options(delay=3600).enqueue()
    await queue.enqueue(chain(task.message(), task.message()))
    await broker.step("default", options, "w1", 2, [])
    assert (await first.status(), await second.status()) == ("running", "delayed")
    await first.cancel()
    await broker.client.redis.set(f"{broker.keys_of('default').base}left-behind", "x", ex=60)
    assert orphans_of(queue) == []
