"""Held connections and subscriptions whose server answers late, in pieces, too much, or not at all.

The server is a script: no real one can be told to break its protocol. What real ones do is in test_redis_failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import hiredis
import pytest
from redis import exceptions as redis_exceptions

from taskfleet import foreign
from taskfleet.redis import subscription as subscription_module
from taskfleet.redis.connection_options import Timeouts
from taskfleet.redis.server import Server
from tests.engine.conftest import until

REPLY_BYTES = 1_000_000
Answer = Callable[[list[bytes], asyncio.StreamWriter], Awaitable[None]]


class Scripted:
    """A server that answers each command but those of a handshake by `answer`."""

    def __init__(self) -> None:
        self.connections = 0
        self.answer: Answer = answer_ok
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65_536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    if command[0] in (b"CLIENT", b"SELECT", b"HELLO"):
                        writer.write(b"+OK\r\n")
                    else:
                        await self.answer(command, writer)
        except ConnectionError:
            pass  # the client went first
        finally:
            writer.close()


async def answer_ok(command: list[bytes], writer: asyncio.StreamWriter) -> None:
    writer.write(b"+OK\r\n")


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    listening = await asyncio.start_server(scripted.accept, "127.0.0.1", 0)
    scripted.port = listening.sockets[0].getsockname()[1]
    yield scripted
    listening.close()


@pytest.fixture
async def server(scripted: Scripted) -> AsyncIterator[Server]:
    options = {"host": "127.0.0.1", "port": scripted.port, "protocol": 2}
    server = Server(options, 4, Timeouts(connect=5.0, command=5.0), reply_bytes=REPLY_BYTES)
    yield server
    await server.close()


async def test_a_reply_in_single_bytes_is_one_reply(scripted: Scripted, server: Server) -> None:
    async def in_pieces(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        for byte in b"*2\r\n$5\r\nhello\r\n:7\r\n":
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    scripted.answer = in_pieces
    assert await server.lines.call("GET", "key") == [b"hello", 7]
    assert await server.lines.call("GET", "key") == [b"hello", 7]
    assert scripted.connections == 1


async def test_replies_that_arrive_together_belong_to_their_commands(scripted: Scripted, server: Server) -> None:
    async def echo(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        writer.write(b"$%d\r\n%b\r\n" % (len(command[1]), command[1]))

    scripted.answer = echo
    assert await server.lines.calls(("ECHO", "one"), ("ECHO", "two"), ("ECHO", "three")) == [b"one", b"two", b"three"]


async def test_a_late_reply_is_never_that_of_the_next_call(scripted: Scripted, server: Server) -> None:
    waiting = asyncio.Event()

    async def answer(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        if command[1] == b"late":
            await waiting.wait()
        writer.write(b"$%d\r\n%b\r\n" % (len(command[1]), command[1]))

    scripted.answer = answer
    for end in ("cancelled", "timed out"):
        waiting.clear()
        call = asyncio.ensure_future(server.lines.call("GET", "late", timeout=0.05 if end == "timed out" else 5.0))
        if end == "cancelled":
            await until(lambda: scripted.connections > 0, "it is on its way")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            with pytest.raises(redis_exceptions.TimeoutError, match=r"no answer within 0.05 s"):
                await call
        waiting.set()
        assert [await server.lines.call("GET", name) for name in ("next", "after")] == [b"next", b"after"]


@pytest.mark.parametrize(
    ("sent", "error", "message"),
    [
        (b"", redis_exceptions.ConnectionError, "closed by server"),
        (b"$100\r\nhalf", redis_exceptions.ConnectionError, "closed by server"),
        (b"$2000000\r\n", redis_exceptions.RedisError, "more than 1000000 bytes"),
        (b"*2000000000\r\n", redis_exceptions.RedisError, "more than 1000000 bytes"),
        (b"?what\r\n", redis_exceptions.RedisError, "Protocol error"),
        (b"-LOADING the dataset is loaded\r\n", redis_exceptions.BusyLoadingError, "the dataset is loaded"),
    ],
)  # fmt: skip
async def test_what_is_no_reply_ends_its_call_alone(
    scripted: Scripted, server: Server, sent: bytes, error: type[Exception], message: str
) -> None:
    async def broken(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        scripted.answer = answer_ok
        if sent != b"-LOADING the dataset is loaded\r\n":
            writer.close()

    scripted.answer = broken
    with pytest.raises(error, match=message):
        await server.lines.call("GET", "key")
    assert await server.lines.call("GET", "key") == b"OK"
    assert scripted.connections == 2


async def test_a_reply_to_no_call_ends_the_connection(scripted: Scripted, server: Server) -> None:
    async def twice(command: list[bytes], writer: asyncio.StreamWriter) -> None:
        writer.write(b"+OK\r\n")
        await writer.drain()
        writer.write(b"+SURPRISE\r\n")
        scripted.answer = answer_ok

    scripted.answer = twice
    assert await server.lines.call("GET", "key") == b"OK"
    await until(lambda: all(line.lost for line in server.lines._free), "its connection is closed")
    assert await server.lines.call("GET", "key") == b"OK"
    assert scripted.connections == 2


async def test_an_error_where_a_reply_arrives_is_the_error_of_its_call(scripted: Scripted, server: Server) -> None:
    def arrived(replies: list[Any]) -> None:
        raise LookupError("nobody wants it")

    with pytest.raises(LookupError, match="nobody wants it"):
        await server.lines.exchange(b"*1\r\n$4\r\nPING\r\n", 1, None, arrived)
    assert await server.lines.call("GET", "key") == b"OK"


def message(channel: str, data: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel.encode(), len(data), data)


class Channel:
    """Confirms subscriptions, and can speak to the last subscriber. `asked` counts its pings, which it leaves to the
    test."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None
        self.asked = 0

    async def __call__(self, command: list[bytes], writer: asyncio.StreamWriter) -> None:
        if command[0] == b"SUBSCRIBE":
            self.writer = writer
            for n, name in enumerate(command[1:], start=1):
                writer.write(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:%d\r\n" % (len(name), name, n))
        elif command[0] == b"PING":
            self.asked += 1

    def say(self, data: bytes) -> None:
        assert self.writer is not None
        self.writer.write(data)


async def test_a_subscription_gets_each_message_once_in_order(scripted: Scripted, server: Server) -> None:
    scripted.answer = channel = Channel()
    async with server.subscription(["a", "b"], 5.0) as subscription:
        channel.say(b"".join(message("ab"[n % 2], b"%d" % n) for n in range(1000)))
        assert [await subscription.next(5.0) for _ in range(1000)] == [b"%d" % n for n in range(1000)]


async def test_a_message_in_pieces_is_one_message_of_a_subscription_that_lives(
    scripted: Scripted, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_module, "_QUIET_SECONDS", 0.05)
    scripted.answer = channel = Channel()
    async with server.subscription(["a"], 5.0) as subscription:
        next_one = asyncio.ensure_future(subscription.next(60.0))
        whole = message("a", b"x" * 50)
        for turn, at in enumerate(range(0, len(whole), 20), start=1):
            await until(lambda turn=turn: channel.asked == turn, "it asks, since nothing has come for a while")
            channel.say(whole[at : at + 20])  # its only answer
        assert await next_one == b"x" * 50
    assert scripted.connections == 1


async def test_a_subscription_whose_reader_is_slow_lets_the_server_wait(scripted: Scripted, server: Server) -> None:
    """The server publishes 16 MB; the memory of the subscriber is bounded, and nothing is lost."""
    scripted.answer = channel = Channel()
    async with server.subscription(["a"], 5.0) as subscription:
        assert channel.writer is not None
        for n in range(2_000):
            channel.say(message("a", b"%08d" % n + b"x" * 8000))
        most = 0
        for n in range(2_000):
            assert (await subscription.next(5.0))[:8] == b"%08d" % n
            most = max(most, subscription._bytes)
        assert most < 3_000_000


async def test_a_message_that_taskfleet_has_not_sent_only_tells_to_look(scripted: Scripted, server: Server) -> None:
    scripted.answer = channel = Channel()
    async with server.subscription(["a"], 5.0) as subscription:
        channel.say(message("a", b"x" * (foreign.MESSAGE_LIMIT + 1)))
        channel.say(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:7\r\n")
        channel.say(message("a", b"known"))
        assert [await subscription.next(5.0) for _ in range(3)] == [b"", b"", b"known"]


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"*2000000000\r\n", redis_exceptions.RedisError),
        (b"?what\r\n", redis_exceptions.RedisError),
        (b"-ERR no more\r\n", redis_exceptions.ResponseError),
        (None, redis_exceptions.ConnectionError),
    ],
)  # fmt: skip
async def test_a_subscription_that_cannot_go_on_says_so(
    scripted: Scripted, server: Server, sent: bytes | None, error: type[Exception]
) -> None:
    scripted.answer = channel = Channel()
    async with server.subscription(["a"], 5.0) as subscription:
        assert channel.writer is not None
        channel.say(message("a", b"before"))
        if sent is None:
            channel.writer.close()
        else:
            channel.say(sent)
        assert await subscription.next(5.0) == b"before"
        with pytest.raises(error):
            await subscription.next(5.0)


async def test_a_subscription_that_is_not_confirmed_is_an_error_in_time(scripted: Scripted, server: Server) -> None:
    async def silent(command: list[bytes], writer: asyncio.StreamWriter) -> None: ...

    scripted.answer = silent
    with pytest.raises(TimeoutError):
        async with server.subscription(["a"], 0.1):
            pass
