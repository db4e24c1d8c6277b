"""What the external scaler tells when Redis has lost its data, hangs, or is no longer asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from taskfleet import brokers
from taskfleet.errors import BrokerConnectionError
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings
from taskfleet_operator.keda.recommendations import Recommendations
from taskfleet_operator.keda.trigger import Trigger, trigger_of
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer

PREFIX = "keda-lost"


class Clock:
    """Seconds that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as redis:
        yield redis


def broker_at(url: str, prefix: str) -> RedisBroker:
    broker = brokers.broker_at(url, RedisSettings(key_prefix=prefix), stored_limit_bytes=0)
    assert isinstance(broker, RedisBroker)
    return broker


def trigger(prefix: str) -> Trigger:
    metadata = {"queues": "default", "keyPrefix": prefix, "pollIntervalSeconds": "1", "concurrency": "4"}
    return trigger_of({"scalerAddress": "scaler:6000", **metadata})


async def test_a_redis_that_came_back_empty_takes_no_worker_away(
    own_redis: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(own_redis.url)

    @queue.task
    async def nothing() -> None: ...

    await run_worker(queue)
    prefix = queue.application.settings.redis.key_prefix
    told = Recommendations(lambda prefix: broker_at(own_redis.url, prefix))
    try:
        await (await nothing.enqueue()).result(timeout=60)
        asked = trigger(prefix)
        await until(lambda: _replicas(told, asked, 0.0, active=False), "nothing is to be done")
        own_redis.call("FLUSHALL")
        await until(lambda: _replicas(told, asked, 1.0, active=True), "the worker that is there stays")
    finally:
        await told.close()


async def _replicas(told: Recommendations, asked: Trigger, replicas: float, *, active: bool) -> bool:
    latest = await told.now(asked)
    return (latest.replicas, latest.active) == (replicas, active)


async def test_a_read_that_hangs_gives_no_old_number(own_redis: RedisServer) -> None:
    clock = Clock()
    told = Recommendations(lambda prefix: broker_at(own_redis.url, prefix), clock=clock)
    try:
        assert not (await told.now(trigger(PREFIX))).active
        clock.now += 23
        with pytest.raises(BrokerConnectionError, match="has not answered for"):
            await told.now(trigger(PREFIX))
    finally:
        await told.close()


async def test_a_prefix_that_nobody_asks_for_keeps_no_connection(own_redis: RedisServer) -> None:
    clock, made = Clock(), list[str]()

    def connect(prefix: str) -> RedisBroker:
        made.append(prefix)
        return broker_at(own_redis.url, prefix)

    told = Recommendations(connect, clock=clock)
    try:
        await told.now(trigger("first"))
        clock.now += 10_000
        await told.now(trigger("second"))
        await told.now(trigger("first"))
        assert made == ["first", "second", "first"]
    finally:
        await told.close()
