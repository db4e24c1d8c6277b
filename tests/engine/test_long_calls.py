"""What one call may copy or move is bounded, however much there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskfleet import QueueOptions, outcome
from taskfleet.engine.broker import RedisBroker
from tests.support.redis_server import RedisServer

OPTIONS = QueueOptions("q")
CANCELLED = outcome.pack_end(outcome.CANCELLED, "cancelled")
FAILURE = outcome.pack_failure("exception", "ValueError: no", "")


@pytest.fixture
async def broker(server: RedisServer) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker.from_url(server.url, prefix="long-calls")
    yield broker
    await broker.purge_keys(["q", "other"])
    await broker.close()


async def test_a_claim_takes_no_more_bytes_than_it_may(broker: RedisBroker) -> None:
    megabyte = b"x" * 1_000_000
    blobs = [b"small", *[megabyte] * 5, b"small", b"x" * 5_000_000, b"small"]
    for n, blob in enumerate(blobs):
        more = {"f": "a" if n % 2 else "b"} if n > 3 else None
        await broker.enqueue("q", [(f"t{n}", blob, 0, 0, more) if more else (f"t{n}", blob, 0, 0)])
    seen: list[str] = []
    left = 1
    while left:
        reply = await broker.step("q", OPTIONS, "w", 100, [])
        left = reply.left
        sizes = [len(claim[2]) for claim in reply.claims]
        assert sizes
        assert sum(sizes) <= 2_000_000 or len(sizes) == 1
        seen += [claim[1] for claim in reply.claims]
    assert sorted(seen) == [f"t{n}" for n in range(len(blobs))]
    assert seen[:4] == ["t0", "t1", "t2", "t3"]


async def test_small_payloads_are_claimed_all_at_once(broker: RedisBroker) -> None:
    await broker.enqueue("q", [(f"t{n}", b"x" * 500, 0, 0) for n in range(900)])
    assert len((await broker.step("q", OPTIONS, "w", 1000, [])).claims) == 900


@pytest.mark.parametrize("named", [True, False])
async def test_large_letters_are_requeued_in_several_calls(broker: RedisBroker, named: bool) -> None:
    ids = [f"t{n}" for n in range(7)]
    for task_id in ids:
        await broker.enqueue("q", [(task_id, b"x" * 1_500_000, 0, 0)])
        (claim,) = (await broker.step("q", OPTIONS, "w", 1, [])).claims
        await broker.step("q", OPTIONS, "w", 0, [(task_id, claim[4], "f", 0, CANCELLED, 1000, FAILURE)])
    assert await broker.requeue_dead("q", [*ids, "unknown"] if named else None) == 7
    assert (await broker.stats_many(["q"]))["q"].ready == 7
    assert (await broker.stats_many(["q"]))["q"].dead == 0


async def test_what_is_due_at_once_moves_in_order(broker: RedisBroker) -> None:
    await broker.enqueue("q", [(f"t{n:04}", b"x", 60_000, 0) for n in range(999)])
    await broker.client.redis.zadd(broker.keys_of("q").all[5], {f"t{n:04}": 1000 + n for n in range(999)})
    seen: list[str] = []
    while claims := (await broker.step("q", OPTIONS, "w", 300, [])).claims:
        seen += [claim[1] for claim in claims]
    assert seen == [f"t{n:04}" for n in range(999)]
