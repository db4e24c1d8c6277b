"""The slowest script call of a run is found, and one that no busy machine explains is a defect."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
import redis.asyncio

from tests.chaos.slow_calls import MOST_MS, SlowCalls
from tests.engine.conftest import until
from tests.support.redis_server import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def entry(command: bytes, milliseconds: float, logged: int = 1000) -> dict[str, Any]:
    return {"command": command, "duration": int(milliseconds * 1000), "start_time": logged}


async def read_a_call(calls: SlowCalls, client: Any) -> None:
    """Read until a call is there: a busy Redis may not answer in time."""
    await until(lambda: _reads_a_call(calls, client), "the log has a script call")


async def _reads_a_call(calls: SlowCalls, client: Any) -> bool:
    await calls.read(client)
    return calls.slowest_ms > 1.0


def test_the_slowest_script_call_is_kept() -> None:
    calls = SlowCalls()
    calls.take([entry(b"EVALSHA abc 3", 12.5), entry(b"FLUSHALL", 900.0), entry(b"evalsha def 1", 40.0)])
    calls.take([entry(b"EVALSHA abc 3", 20.0)])
    assert calls.slowest == (40.0, "evalsha def 1")
    assert not calls.defects


def test_a_call_that_is_far_too_long_is_a_defect() -> None:
    calls = SlowCalls()
    calls.take([entry(b"EVALSHA abc 3", MOST_MS + 1)])
    assert calls.defects == ["a script call held Redis for 501 ms: 'EVALSHA abc 3'"]


def test_time_in_which_redis_did_not_run_is_not_that_of_a_call() -> None:
    calls = SlowCalls()
    calls.take([entry(b"EVALSHA abc 3", 3000.0, logged=1003)])
    assert calls.slowest_ms == 3000.0
    calls.stood_still(1003.5, waited=2.9, worked=0.1)
    assert calls.slowest_ms == pytest.approx(200.0)


def test_a_call_that_works_all_the_time_while_others_wait_is_slow() -> None:
    calls = SlowCalls()
    calls.take([entry(b"EVALSHA abc 3", 3000.0, logged=1003)])
    calls.stood_still(1003.5, waited=2.9, worked=2.9)  # for this call
    calls.stood_still(999.0, waited=3.0, worked=0.0)  # before it
    calls.stood_still(1003.5, waited=2.9, worked=math.nan)  # where it is not to be had
    assert calls.slowest_ms == 3000.0


async def test_the_log_of_a_server_is_read_once_and_emptied(server: RedisServer) -> None:
    async with redis.asyncio.Redis(port=server.port) as client:
        calls, again = SlowCalls(), SlowCalls()
        await calls.begin(client)
        await client.eval("for i = 1, 3000000 do local _ = i * i end", 0)
        await read_a_call(calls, client)
        assert calls.slowest[1].startswith("EVAL")
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
        await read_a_call(calls, client)
