"""A connection that another task closes while a call is about to use it: the call ends as by any lost connection."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from redis import exceptions as redis_exceptions
from redis.asyncio.connection import UnixDomainSocketConnection

from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.connecting import connect
from taskfleet.redis.connection_options import ConnectionOptions, Timeouts
from taskfleet.redis.server import Server
from tests.support.redis_server import RedisServer

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=["tcp", "unix socket"])
async def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    path = tmp_path_factory.mktemp("s") / "s"
    with RedisServer("--unixsocket", str(path)) as running:
        host, _, port = running.url.removeprefix("redis://").partition("/")[0].rpartition(":")
        unix = {"path": str(path), "connection_class": UnixDomainSocketConnection}
        made = Server({"host": host, "port": int(port)} if request.param == "tcp" else unix, 8, Timeouts(2.0, 5.0))
        yield made
        await made.close()


@pytest.mark.parametrize("pool", ["commands", "waiting"])
async def test_a_command_whose_connection_is_closed_before_it_leaves(server: Server, pool: str) -> None:
    connection = getattr(server, pool).connection_pool.make_connection()
    await connection.connect()
    sending = asyncio.ensure_future(connection.send_command("PING"))
    await asyncio.sleep(0)  # it has looked at the connection, and has not sent anything if there is a timeout
    await connection.disconnect(nowait=True)
    if pool == "commands" and sys.version_info < (3, 12):
        with pytest.raises(redis_exceptions.ConnectionError, match="closed before the command was sent"):
            await sending
    else:
        await sending  # without a timeout, or with that of a later Python, it is sent where it was looked at
    await connection.disconnect()


async def test_calls_while_all_connections_are_forgotten_are_answered_or_lost(server: Server) -> None:
    seen: Counter[str] = Counter()

    async def call() -> None:
        try:
            await server.commands.info("memory")
        except redis_exceptions.ConnectionError:
            seen["lost"] += 1
        else:
            seen["answered"] += 1

    async def turns(number: int) -> None:
        for _ in range(number):
            await asyncio.sleep(0)

    async def after(number: int) -> None:
        await turns(number)
        await call()

    for round_ in range(60):
        await asyncio.gather(*(call() for _ in range(4)))
        await asyncio.gather(turns(round_ % 6), server.forget(), *(after(number) for number in range(8)))
    assert seen["answered"] > seen["lost"]
    assert seen.total() == 60 * 12


async def test_calls_of_an_abandoned_server_are_lost_and_open_no_connection(server: Server) -> None:
    """Whatever they were about to do: send, open a connection, wait for a free one."""
    calls = [asyncio.ensure_future(server.commands.info("memory")) for _ in range(20)]  # it has eight connections
    lines = [asyncio.ensure_future(server.lines.call("PING")) for _ in range(3)]
    listening = asyncio.ensure_future(_subscribed(server))
    await asyncio.sleep(0)
    server.abandon()
    for lost in await asyncio.gather(*calls, *lines, listening, server.commands.ping(), return_exceptions=True):
        assert isinstance(lost, redis_exceptions.ConnectionError)
    assert [each for each in server.connections() if each.is_connected] == []


async def _subscribed(server: Server) -> None:
    async with server.subscription(["channel"], 5.0):
        pass


async def test_an_abandoned_broker_can_be_used_again() -> None:
    with RedisServer() as running:
        broker = RedisBroker.from_url(running.url)
        for turns in range(16):
            call = asyncio.ensure_future(broker.ping())
            for _ in range(turns):
                await asyncio.sleep(0)
            broker.abandon()
            await call
        await broker.close()


async def test_questions_about_the_server_are_asked_again() -> None:
    """Its user sees neither the closed connection nor an error of Python."""
    with RedisServer() as running:
        broker = RedisBroker(connect(ConnectionOptions(running.url)), "closed")
        try:
            for _ in range(30):
                looks = [broker.memory() for _ in range(4)]
                (_, *found) = await asyncio.gather(broker.client.dropped(redis_exceptions.ReadOnlyError()), *looks)
                assert [len(servers) for servers in found] == [1] * 4
        finally:
            await broker.close()


@pytest.mark.parametrize("loops", LOOPS)
def test_a_call_that_is_cancelled_in_any_turn_of_the_loop_ends(loops: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Also when its bytes have just left. Redis stands still, so that no call ends by itself."""

    async def main(url: str) -> list[str]:
        broker = RedisBroker.from_url(url, command_timeout=10.0)
        ends: list[str] = []
        for turns in range(24):
            call = asyncio.ensure_future(broker.memory())
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            ends.append("cancelled" if call.cancelled() else repr(call.exception() or call.result()))
            await broker.client.dropped(redis_exceptions.ReadOnlyError())
        broker.abandon()
        await asyncio.sleep(0)
        return ends

    with RedisServer() as server, asyncio.Runner(loop_factory=loops) as runner:
        server.pause()
        assert runner.run(main(server.url)) == ["cancelled"] * 24
