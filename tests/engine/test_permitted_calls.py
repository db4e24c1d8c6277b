"""Calls of an operator that may lose its leadership at any moment: each attempt asks, and has to end in time."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from taskfleet.errors import BrokerConnectionError
from taskfleet.history import decisions, read
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet_operator.control.api.kubernetes_api import NotLeadingError
from taskfleet_operator.control.redis.redis_credentials import RedisCredentials
from taskfleet_operator.control.redis.redis_place import RedisPlace
from tests.engine.conftest import until
from tests.engine.test_decision_history import SCALER, looks
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer

Write = Callable[[RedisBroker], Any]


class Permit:
    """Says yes so many times: an attempt asks when it begins, and when its command leaves."""

    def __init__(self, attempts: int, seconds: float = 60.0) -> None:
        self.left = attempts
        self.seconds = seconds
        self.lost: Callable[[], None] = lambda: None

    def __call__(self, subject: str = "a write") -> float:
        if self.left == 0:
            self.lost()
            raise NotLeadingError(subject)
        self.left -= 1
        return self.seconds


@pytest.fixture
async def broker(server: RedisServer) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker.from_url(server.url, prefix=f"permits-{secrets.token_hex(4)}")
    yield broker
    await broker.purge_keys(["q", "other"])
    await broker.uncordon("w")
    await broker.close()


@asynccontextmanager
async def _by_proxy(server: RedisServer, prefix: str) -> AsyncIterator[tuple[Proxy, RedisBroker]]:
    async with Proxy(server.port) as proxy:
        broker = RedisBroker.from_url(proxy.url, prefix=prefix, command_timeout=60.0)
        try:
            yield proxy, broker
        finally:
            await broker.close()


@pytest.fixture
def by_proxy(server: RedisServer, broker: RedisBroker) -> AbstractAsyncContextManager[tuple[Proxy, RedisBroker]]:
    return _by_proxy(server, broker.prefix)


async def keys_of(broker: RedisBroker) -> set[bytes]:
    found = {key async for key in broker.client.scan(f"{broker.prefix}:*")}
    return {key for key in found if b"cordon" in key or b"schedules" in key or b"mark" in key}


WRITES: list[Write] = [
    lambda broker: broker.cordon("w", ttl_seconds=60),
    lambda broker: broker.leave_mark("m", ttl_seconds=60),
    lambda broker: broker.schedules.add("q", "s", b"\x90", 5),
]


@pytest.mark.parametrize("write", WRITES, ids=["cordon", "mark", "schedule"])
async def test_an_attempt_after_a_failed_one_asks_again(
    broker: RedisBroker, by_proxy: AbstractAsyncContextManager[tuple[Proxy, RedisBroker]], write: Write
) -> None:
    async with by_proxy as (proxy, far):
        permit = Permit(1)
        proxy.refusing = True
        permit.lost = lambda: setattr(proxy, "refusing", False)  # the second attempt would get through
        with pytest.raises(NotLeadingError):
            await write(far.permitted(permit))
    assert await keys_of(broker) == set()


@pytest.mark.parametrize("write", WRITES, ids=["cordon", "mark", "schedule"])
async def test_an_attempt_ends_before_another_may_lead(
    by_proxy: AbstractAsyncContextManager[tuple[Proxy, RedisBroker]], write: Write
) -> None:
    async with by_proxy as (proxy, far):
        proxy.delay = 600.0
        began = time.monotonic()
        with pytest.raises((NotLeadingError, BrokerConnectionError)):
            await write(far.permitted(Permit(2, seconds=0.2)))
        assert time.monotonic() - began < 20, "the answer may take 60 s otherwise"


@pytest.mark.parametrize("connected", [True, False], ids=["with a connection", "without a connection"])
@pytest.mark.parametrize("write", WRITES, ids=["cordon", "mark", "schedule"])
async def test_an_attempt_asks_again_when_its_command_leaves(
    broker: RedisBroker, write: Write, connected: bool
) -> None:
    """As when the process is stopped in between: no time limit has passed on its loop yet."""
    if connected:
        await write(broker)
        await broker.purge_keys(["q"])
        await broker.uncordon("w")
        await broker.client.redis.delete(broker.fleet.mark("m"))
    with pytest.raises(NotLeadingError):
        await write(broker.permitted(Permit(1)))
    assert await keys_of(broker) == set()
    assert await broker.client.redis.ping(), "the connections are as good as before"
    await write(broker.permitted(Permit(9)))
    assert await keys_of(broker)
    await broker.client.redis.delete(broker.fleet.mark("m"))


async def test_a_purge_asks_before_each_of_its_calls(broker: RedisBroker) -> None:
    for queue in ("q", "other"):
        await broker.enqueue(queue, [("t", b"x", 0, 0, None)])
    left: list[int] = []
    for attempts in range(1, 20):
        try:
            await broker.permitted(Permit(attempts)).purge_keys(["q", "other"])
        except NotLeadingError:
            left.append(len(await broker.client.redis.smembers(broker.fleet.queues)))
        else:
            break
    assert left == sorted(left, reverse=True)
    assert left[-1] > 0, "a purge that was not ended is begun again"
    assert len(left) > 6, "two queues, and their places in the list; each asks before its attempt and its command"
    assert not await broker.client.redis.smembers(broker.fleet.queues)


async def test_the_broker_itself_asks_nobody(broker: RedisBroker) -> None:
    broker.permitted(Permit(0))
    await broker.cordon("w", ttl_seconds=60)
    assert len(await keys_of(broker)) == 1


async def test_cordons_of_the_control_loops_ask_and_their_reads_do_not(broker: RedisBroker) -> None:
    credentials = RedisCredentials(broker.url, broker.prefix, None, None, 4, 5.0, 5.0)
    place = RedisPlace(credentials, credentials.connect(), lambda _keys: None, Permit(0))
    for write in (place.redis.cordon("w", ttl_seconds=60), place.redis.uncordon("w")):
        with pytest.raises(NotLeadingError, match="a cordon"):
            await write
    async with asyncio.timeout(20):
        assert (await place.redis.read({"q": (0, 0)})).stats.keys() == {"q"}
    await place.close()
    assert await keys_of(broker) == set()


async def test_an_operator_records_figures_and_decisions_only_while_it_leads(
    broker: RedisBroker, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = RedisCredentials(broker.url, broker.prefix, None, None, 4, 5.0, 5.0)
    await broker.enqueue(Partition("q"), [("t", b"x", 0, 0, None)])
    fleet = broker.fleet
    kept = (broker.keys_of("q").history, fleet.recorder, fleet.decisions(SCALER), fleet.replicas(SCALER), fleet.latest)
    for leads in (False, True):
        place = RedisPlace(credentials, credentials.connect(), lambda _keys: None, Permit(1_000_000 if leads else 0))
        place.redis.note(SCALER, next(looks(1)))
        notes = place.redis._notes
        assert notes is not None
        await until(lambda notes=notes: notes.written + notes.lost, "the decision is kept, or not")
        if leads:
            await until(lambda place=place: place.recorder.turns, "figures are recorded")
        else:
            assert not place.recorder.records
        assert await broker.client.redis.exists(*kept) == (len(kept) if leads else 0)
        await place.close()
    assert "has ended by an error" not in caplog.text
    assert (await read(broker, "q")).points[-1].ready == 1
    assert len(await decisions(broker, SCALER)) == 1
    assert not await broker.client.redis.exists(fleet.recorder), "the next operator records at once"
    await broker.purge_keys(["q"])
