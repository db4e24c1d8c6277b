"""The limit of writes a second."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskfleet_operator.control.api.token_bucket import TokenBucket


async def test_a_burst_is_let_through_and_then_the_rate_counts() -> None:
    bucket = TokenBucket(100.0, 10)
    began = time.monotonic()
    for _ in range(10):
        await bucket.take(0, seconds=1)
    assert time.monotonic() - began < 0.09
    await asyncio.gather(*(bucket.take(0, seconds=5) for _ in range(20)))
    assert time.monotonic() - began >= 0.19
    assert bucket.waiting() == 0


async def test_the_most_urgent_goes_first() -> None:
    bucket = TokenBucket(50.0, 1)
    await bucket.take(0, seconds=1)
    order: list[int] = []

    async def take(urgency: int) -> None:
        await bucket.take(urgency, seconds=5)
        order.append(urgency)

    async with asyncio.TaskGroup() as group:
        for urgency in (2, 1, 2, 0, 1):
            group.create_task(take(urgency))
    assert order == [0, 1, 1, 2, 2]


async def test_a_token_that_does_not_come_is_a_timeout_and_is_not_lost() -> None:
    bucket = TokenBucket(0.5, 1)
    await bucket.take(0, seconds=1)
    with pytest.raises(TimeoutError):
        await bucket.take(0, seconds=0.01)
    assert bucket.waiting() == 0
    await bucket.take(0, seconds=5)


async def test_one_that_is_cancelled_takes_none() -> None:
    bucket = TokenBucket(20.0, 1)
    await bucket.take(0, seconds=1)
    first = asyncio.create_task(bucket.take(0, seconds=5))
    second = asyncio.create_task(bucket.take(1, seconds=5))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(1):
        await second


async def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    bucket = TokenBucket(1000.0, 10)
    bucket.close_for(0.2)
    began = time.monotonic()
    await bucket.take(0, seconds=5)
    assert time.monotonic() - began >= 0.2
