"""A subscription outlives whatever arrives on it: no listener ends for one message that is none, nor in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from taskfleet.redis.broker import RedisBroker
from tests.support.hostile_redis import HostileRedis

MIB = 1_048_576
HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
CHANNEL = b"shop:activity"


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(data), data)


def pushed(*parts: bytes, kind: bytes = b"*") -> bytes:
    return kind + b"%d\r\n" % len(parts) + b"".join(parts)


def message(data: bytes, *, kind: bytes = b"*") -> bytes:
    return pushed(bulk(b"message"), bulk(CHANNEL), data, kind=kind)


SUBSCRIBED = pushed(bulk(b"subscribe"), bulk(CHANNEL), b":1\r\n")
ODD = {
    "bytes that are no text": message(bulk(b"\xff\xfe\x1b[2J")),
    "a number": message(b":7\r\n"),
    "nothing": message(b"$-1\r\n"),
    "a list": message(b"*2\r\n:1\r\n:2\r\n"),
    "a map": message(b"%1\r\n+a\r\n+b\r\n"),
    "an error": message(b"-ERR no\r\n"),
    "no channel": pushed(bulk(b"message")),
    "no parts": b"*0\r\n",
    "a text": b"+hello\r\n",
    "a number alone": b":5\r\n",
    "an unknown kind": pushed(bulk(b"massage"), bulk(CHANNEL), bulk(b"x")),
    "a kind that is no text": pushed(b":1\r\n", bulk(CHANNEL), bulk(b"x")),
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "100 MB": message(bulk(bytes(100 * MIB))),
    "a push of one": pushed(bulk(b"message"), kind=b">"),
}


class Subscriptions:
    """What the server sends after each SUBSCRIBE: something odd the first time, and always a name."""

    def __init__(self, odd: bytes) -> None:
        self._odd = odd

    def __iter__(self) -> Iterator[bytes]:
        odd, self._odd = self._odd, b""
        return iter([SUBSCRIBED, odd, message(bulk(b"orders"))])


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_a_message_that_is_none_ends_no_listener(odd: bytes) -> None:
    async with HostileRedis({b"SUBSCRIBE": Subscriptions(odd), b"HELLO": HELLO}) as server:
        broker = RedisBroker.from_url(server.url, prefix="shop", command_timeout=0.5)
        heard = broker.activity()
        async with asyncio.timeout(60):
            async for name in heard:
                assert len(name) < 100
                if name == "orders":
                    break
        await heard.aclose()  # type: ignore[attr-defined]
        await broker.close()


@pytest.mark.parametrize("odd", [ODD["no channel"], ODD["a number alone"]], ids=["no channel", "a number alone"])
async def test_such_a_message_is_said_in_one_line(odd: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with HostileRedis({b"SUBSCRIBE": Subscriptions(odd), b"HELLO": HELLO}) as server:
        broker = RedisBroker.from_url(server.url, prefix="shop")
        heard = broker.activity()
        async with asyncio.timeout(60):
            assert [await anext(heard) for _ in range(3)] == ["", "", "orders"]  # "": something may have been missed
        await heard.aclose()  # type: ignore[attr-defined]
        await broker.close()
    assert len([line for line in caplog.messages if "a message that is none" in line]) == 1
