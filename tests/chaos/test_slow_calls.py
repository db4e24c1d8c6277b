"""The slowest script call of a run is found, and one that no busy machine explains is a defect."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio

from tests.chaos.slow_calls import MOST_MS, SlowCalls
from tests.support.redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def entry(command: bytes, milliseconds: float) -> dict[str, Any]:
    return {"command": command, "duration": int(milliseconds * 1000)}


def test_the_slowest_script_call_is_kept() -> None:
    calls = SlowCalls()
    calls.take([entry(b"EVALSHA abc 3", 12.5), entry(b"FLUSHALL", 900.0), entry(b"evalsha def 1", 40.0)])
    calls.take([entry(b"EVALSHA abc 3", 20.0)])
    assert (calls.slowest_ms, calls.call) == (40.0, "evalsha def 1")
    assert not calls.defects


def test_a_call_that_is_far_too_long_is_a_defect() -> None:
    calls = SlowCalls()
    calls.take([entry(b"EVALSHA abc 3", MOST_MS + 1)])
    assert calls.defects == ["a script call held Redis for 501 ms: 'EVALSHA abc 3'"]


async def test_the_log_of_a_server_is_read_once_and_emptied(server: RedisServer) -> None:
    async with redis.asyncio.Redis(port=server.port) as client:
        calls, again = SlowCalls(), SlowCalls()
        await calls.begin(client)
        await client.eval("for i = 1, 3000000 do local _ = i * i end", 0)
        await calls.read(client)
        assert calls.slowest_ms > 1.0
        assert calls.call.startswith("EVAL")
        await again.read(client)
        assert again.slowest_ms == 0.0


async def test_what_a_stopped_process_has_logged_does_not_count(server: RedisServer) -> None:
    """Whoever looks at the log meanwhile, and with an answer that was on its way when it was stopped."""
    async with redis.asyncio.Redis(port=server.port) as client:
        calls = SlowCalls()
        await calls.begin(client)
        async with calls.stopped(client):
            on_its_way = asyncio.create_task(calls.read(client))
            await client.eval("for i = 1, 3000000 do local _ = i * i end", 0)
            await asyncio.gather(on_its_way, calls.read(client))
        await calls.read(client)
        assert calls.slowest_ms == 0.0
        await client.eval("for i = 1, 3000000 do local _ = i * i end", 0)
        await calls.read(client)
        assert calls.slowest_ms > 1.0
