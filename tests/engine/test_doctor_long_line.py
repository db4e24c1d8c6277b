"""A ready list that is too long for one call, and moves at both ends while the doctor looks through it."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskfleet import QueueOptions
from taskfleet.doctor import checkup
from taskfleet.protocol import result_record
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.doctor import examining, line
from tests.support.redis_server import RedisServer

MANY = 120_000  # more than one call compares
MOST_CLAIMED = 60_000  # which leaves the places that are looked for
QUEUE = Partition("q")
OPTIONS = QueueOptions("q")
DONE = result_record.pack_success(b"\x01")


@pytest.fixture
async def brokers(server: RedisServer) -> AsyncIterator[tuple[RedisBroker, RedisBroker]]:
    """That of the doctor, and that of the tasks."""
    broker = RedisBroker.from_url(server.url, prefix=f"doctor-{secrets.token_hex(4)}")
    other = broker.another()
    try:
        yield broker, other
    finally:
        await broker.purge_keys(["q"])
        await other.close()
        await broker.close()


async def send(broker: RedisBroker, numbers: range) -> None:
    for first in numbers[::1000]:
        some = range(first, min(first + 1000, numbers.stop))
        await broker.enqueue(QUEUE, [(f"t{n}", b"x", 0, 0, None) for n in some])


@pytest.mark.timeout(600)
async def test_what_is_lost_or_twice_in_a_long_moving_line_is_found_and_nothing_else(
    brokers: tuple[RedisBroker, RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "MOST_IDS", 50_000)  # three shares
    broker, other = brokers
    await send(other, range(MANY))
    names, redis = broker.keys_of(QUEUE), broker.client.redis
    for task_id in ("t60000", "t119999"):
        assert await redis.lrem(names.ready, 0, task_id) == 1
    await redis.rpush(names.ready, "t90000")
    over = asyncio.Event()

    async def flow() -> int:
        """Claims from the head, of which half end and half become ready again, and new tasks at the tail."""
        claimed, sent = 0, MANY
        while not over.is_set() and claimed < MOST_CLAIMED:
            claims = (await other.step(QUEUE, OPTIONS, "w", 20, [])).claims
            claimed += len(claims)
            ends = [
                (claim[1], claim[4], "s", 0, DONE, 0, 0) if n % 2 else (claim[1], claim[4], "r", 0, b"", 0, 0)
                for n, claim in enumerate(claims)
            ]
            await other.step(QUEUE, OPTIONS, "w", 0, ends)
            await send(other, range(sent, sent + 10))
            sent += 10
        return claimed

    flowing = asyncio.create_task(flow())
    try:
        found = (await checkup.look(broker, ["q"])).errors
    finally:
        over.set()
        claimed = await flowing
    assert sorted((each.code, each.subject) for each in found) == [
        ("ready-twice", "t90000"), ("task-lost", "t119999"), ("task-lost", "t60000"),
    ]  # fmt: skip
    assert claimed > 1000
    assert {outcome async for _, outcome in checkup.repair(broker, found)} == {"repaired"}
    assert (await checkup.look(broker, ["q"])).errors == []


@pytest.mark.parametrize("length", [90_000, MANY])  # up to 100,000 ids are compared in one call
async def test_what_many_claims_have_moved_is_looked_for_in_few_calls(
    brokers: tuple[RedisBroker, RedisBroker], monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Workers hold 2,000 tasks while the list is looked through, and hand them back before it is asked for those."""
    broker, other = brokers
    await send(other, range(length))
    names, redis = broker.keys_of(QUEUE), broker.client.redis
    assert await redis.lrem(names.ready, 0, "t60000") == 1
    count, held = Counter[str](), list[Any]()
    call = RedisBroker.call

    async def counted(self: RedisBroker, script: ScriptCall[Any], *size: int) -> Any:
        name = script.script.name
        if self is broker:
            count[name] += 1
            if name == "doctor/line" and not held:
                for _ in range(2):
                    held.extend((await other.step(QUEUE, OPTIONS, "w", 1000, [])).claims)
            if name == "doctor/lost" and count[name] == 1:
                back = [(claim[1], claim[4], "n", 0, 0, 0, 0) for claim in reversed(held)]
                await other.step(QUEUE, OPTIONS, "w", 0, back)
                assert await redis.lindex(names.ready, 0) == b"t0", "they are at the head"
        return await call(self, script, *size)

    monkeypatch.setattr(RedisBroker, "call", counted)
    found = (await checkup.look(broker, ["q"])).errors
    assert [(each.code, each.subject) for each in found] == [("task-lost", "t60000")]
    assert len(held) == 2000
    assert 2000 // 250 <= count["doctor/lost"] <= 30, count


async def test_a_line_that_moves_too_fast_is_told(
    brokers: tuple[RedisBroker, RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, other = brokers
    await send(other, range(6000))
    assert await broker.client.redis.lrem(broker.keys_of(QUEUE).ready, 0, "t3000") == 1
    sent = 6000
    call = RedisBroker.call

    async def slow(self: RedisBroker, script: ScriptCall[Any], *size: int) -> Any:
        """Between two calls of the doctor come more tasks than one call looks through."""
        nonlocal sent
        if self is broker and script.script.name == "doctor/line":
            await send(other, range(sent, sent + 6000))
            sent += 6000
        return await call(self, script, *size)

    with monkeypatch.context() as patched:
        patched.setattr(RedisBroker, "call", slow)
        findings = (await checkup.look(broker, ["q"])).findings
    told = [each for each in findings if each.code == "line-moves"]
    assert [(each.severity, each.queue, each.subject, each.is_mendable) for each in told] == [
        ("warning", "q", "q", False)
    ]
    assert [each for each in findings if each.severity == "error"] == []
    assert [(e.code, e.subject) for e in (await checkup.look(broker, ["q"])).errors] == [("task-lost", "t3000")]


async def test_what_was_found_before_the_line_moved_away_is_told_with_it(
    brokers: tuple[RedisBroker, RedisBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    broker, other = brokers
    await send(other, range(MANY))
    names, redis = broker.keys_of(QUEUE), broker.client.redis
    for task_id in ("t60000", "t119999"):
        assert await redis.lrem(names.ready, 0, task_id) == 1
    await redis.rpush(names.ready, "t90000")
    monkeypatch.setattr(line, "_TOGETHER", 1)
    calls, sent = Counter[str](), MANY
    call = RedisBroker.call

    async def slow(self: RedisBroker, script: ScriptCall[Any], *size: int) -> Any:
        """More tasks than one call looks through come before each second call that looks for what was not seen."""
        nonlocal sent
        if self is broker and script.script.name == "doctor/lost":
            calls["lost"] += 1
            if calls["lost"] % 2 == 0:
                await send(other, range(sent, sent + 6000))
                sent += 6000
        return await call(self, script, *size)

    monkeypatch.setattr(RedisBroker, "call", slow)
    findings = (await checkup.look(broker, ["q"])).findings
    told = {(each.code, each.subject) for each in findings}
    assert {("line-moves", "q"), ("ready-twice", "t90000")} <= told
    assert not any(each.code == "task-lost" for each in findings), "no whole look has missed it twice"
