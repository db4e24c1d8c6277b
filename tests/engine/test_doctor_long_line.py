"""A ready list that is too long for one call, and moves at both ends while the doctor looks through it."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from taskfleet import QueueOptions
from taskfleet.doctor import checkup
from taskfleet.protocol import result_record
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.doctor import examining
from tests.support.redis_server import RedisServer

MANY = 120_000  # more than one call compares
QUEUE = Partition("q")
OPTIONS = QueueOptions("q")
DONE = result_record.pack_success(b"\x01")


@pytest.mark.timeout(600)
async def test_what_is_lost_or_twice_in_a_long_moving_line_is_found_and_nothing_else(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "MOST_IDS", 50_000)  # three shares
    broker = RedisBroker.from_url(server.url, prefix=f"doctor-{secrets.token_hex(4)}")
    other = broker.another()
    sent = 0

    async def send(count: int) -> None:
        nonlocal sent
        await other.enqueue(QUEUE, [(f"t{n}", b"x", 0, 0, None) for n in range(sent, sent + count)])
        sent += count

    while sent < MANY:
        await send(1000)
    names, redis = broker.keys_of(QUEUE), broker.client.redis
    for task_id in ("t60000", "t119999"):
        assert await redis.lrem(names.ready, 0, task_id) == 1
    await redis.rpush(names.ready, "t90000")
    over = asyncio.Event()

    async def flow() -> int:
        """Claims from the head, of which half end and half become ready again, and new tasks at the tail."""
        claimed = 0
        while not over.is_set():
            claims = (await other.step(QUEUE, OPTIONS, "w", 20, [])).claims
            claimed += len(claims)
            ends = [
                (claim[1], claim[4], "s", 0, DONE, 0, 0) if n % 2 else (claim[1], claim[4], "r", 0, b"", 0, 0)
                for n, claim in enumerate(claims)
            ]
            await other.step(QUEUE, OPTIONS, "w", 0, ends)
            await send(10)
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
    await broker.purge_keys(["q"])
    await other.close()
    await broker.close()
