"""A server whose replies are too large or invalid: the client closes the connection and raises a one-line error."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from taskfleet import BrokerConnectionError, TaskQueue
from taskfleet.errors import ReplyTooLargeError
from taskfleet.redis import replies
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings, Settings
from tests.support.hostile_redis import HostileRedis, endless

MIB = 1_048_576
HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"

TOO_LARGE: dict[str, Callable[[], Iterator[bytes]]] = {
    "a bulk of 1.5 GB": lambda: endless(b"$1500000000\r\n", bytes(MIB)),
    "a bulk of 1.5 GB in a list": lambda: endless(b"*2\r\n$1500000000\r\n", bytes(MIB)),
    "a long list": lambda: endless(b"*900000000\r\n", b"$1\r\nx\r\n" * 100_000),
    "a list of too many": lambda: endless(b"*1000001\r\n", b"$1\r\nx\r\n" * 100_000),
    "an endless list": lambda: endless(b"*2\r\n*20000000\r\n", b"$1\r\nx\r\n" * 100_000),
    "an endless error": lambda: endless(b"-ERR ", b"x" * MIB),
    "an endless status": lambda: endless(b"+", b"x" * MIB),
    "an endless number": lambda: endless(b"(", b"9" * MIB),
}


@pytest.mark.parametrize("answer", TOO_LARGE.values(), ids=TOO_LARGE)
@pytest.mark.parametrize("command", [b"EVALSHA", b"SMEMBERS"], ids=["a script", "a command"])
async def test_a_reply_without_end_is_one_error(answer: Callable[[], Iterator[bytes]], command: bytes) -> None:
    async with HostileRedis({command: answer(), b"HELLO": HELLO}) as server:
        broker = RedisBroker.from_url(server.url, command_timeout=60.0)
        with pytest.raises(ReplyTooLargeError) as caught:
            await (broker.status("default", "id") if command == b"EVALSHA" else broker.partitions())
        await broker.close()
        text = str(caught.value)
        assert "one reply has more than " in text
        assert "\n" not in text
        # The call was sent once, because a second one would get the same reply.
        assert server.asked.count(command) == 1
        assert server.sent < replies.REPLY_BYTES + 16 * MIB


async def test_larger_limits_take_larger_replies() -> None:
    size = 100 * MIB
    answer = b"*2\r\n$5\r\nended\r\n$%d\r\n" % size
    async with HostileRedis({b"EVALSHA": iter([answer, bytes(size), b"\r\n"]), b"HELLO": HELLO}) as server:
        settings = Settings(redis=RedisSettings(command_timeout=60.0))
        queue = TaskQueue(server.url, settings=settings, max_result_bytes=50 * MIB)
        state, data = await queue.broker.status("default", "id")
        assert (state, len(data)) == ("ended", size)
        await queue.close()


@pytest.mark.parametrize("text", [b"x" * 200_000, b"\x1b[2J" + b"y" * 300_000, "é\u202e".encode() * 50_000])
async def test_an_error_text_of_any_length_is_one_short_line(text: bytes) -> None:
    async with HostileRedis({b"EVALSHA": b"-ERR " + text + b"\r\n", b"HELLO": HELLO}) as server:
        broker = RedisBroker.from_url(server.url, command_timeout=60.0)
        with pytest.raises(BrokerConnectionError, match=r"answers with an error") as caught:
            await broker.status("default", "id")
        await broker.close()
    assert len(str(caught.value)) < 1300
    assert str(caught.value).isprintable()


def numbers(*found: int) -> bytes:
    return b"*%d\r\n" % len(found) + b"".join(b":%d\r\n" % one for one in found)


NO_FIGURES = {
    "a few": numbers(1, 2),
    "none": b"*0\r\n",
    "nothing": b"_\r\n",
    "a text": b"$3\r\nabc\r\n",
    "a map": b"%1\r\n+a\r\n+b\r\n",
    "texts": b"*18\r\n" + b"$1\r\n7\r\n" * 18,
    "fractions": b"*18\r\n" + b",1.5\r\n" * 18,
    "no numbers": b"*18\r\n" + b",nan\r\n" * 18,
    "truths": b"*18\r\n" + b"#t\r\n" * 18,
    "numbers without end": b"*18\r\n" + b"(99999999999999999999999999\r\n" * 18,
    "lists": b"*18\r\n" + b"*0\r\n" * 18,
    "one that is none": numbers(*[1] * 17)[:-4].replace(b"*17", b"*18") + b":1\r\n" + b"_\r\n",
}


@pytest.mark.parametrize("answer", NO_FIGURES.values(), ids=NO_FIGURES)
async def test_what_is_no_figures_of_a_queue_fails_that_queue_alone(answer: bytes) -> None:
    """A figure that is no whole number would be refused as a part of the status, for as long as it is told."""
    answers = {b"HELLO": HELLO, b"SMEMBERS": b"*0\r\n", b"ZRANGE": b"*0\r\n"}
    replies_in_turn = iter([numbers(*[3] * 18) + answer])
    async with HostileRedis(answers | {b"EVALSHA": replies_in_turn}) as server:
        broker = RedisBroker.from_url(server.url, command_timeout=60.0)
        found = await broker.figures({"a": (0, 0), "b": (0, 0)}, workers=False)
        await broker.close()
    assert found.stats["a"].ready == 3
    assert str(found.failures["b"]).endswith("answers a script with something else than the figures of a queue")


NO_REPLY = {
    "an array that is announced and does not come": b"*1000000\r\n",
    "one for which there is no memory": b"*4000000000\r\n",
    "one longer than any": b"*99999999999999999999\r\n",
    "nesting without end": b"*1\r\n" * 100_000,
    "a key that has no hash": b"%1\r\n*0\r\n:1\r\n",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an error that is no text": b"-ERR \xff\xfe\r\n",
    "nothing that belongs": b"$-5\r\n",
}


@pytest.mark.parametrize("answer", NO_REPLY.values(), ids=NO_REPLY)
async def test_an_invalid_reply_is_a_one_line_error(answer: bytes) -> None:
    async with HostileRedis({b"EVALSHA": answer, b"HELLO": HELLO}) as server:
        broker = RedisBroker.from_url(server.url, command_timeout=0.5)
        with pytest.raises(BrokerConnectionError) as caught:
            await broker.status("default", "id")
        await broker.close()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1300
