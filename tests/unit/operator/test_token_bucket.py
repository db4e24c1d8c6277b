"""The limit of writes a second."""

from __future__ import annotations

import asyncio
import time

import pytest

from taskfleet_operator.control.api.token_bucket import TokenBucket


class Clock:
    """Stands until the test moves it, however long the machine takes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_burst_is_let_through_and_then_the_rate_counts() -> None:
    clock = Clock()
    bucket = TokenBucket(100.0, 10, clock)
    for _ in range(10):
        await bucket.take(0, seconds=0)
    with pytest.raises(TimeoutError):
        await bucket.take(0, seconds=0)
    clock.now += 0.055
    for _ in range(5):
        await bucket.take(0, seconds=0)
    with pytest.raises(TimeoutError):
        await bucket.take(0, seconds=0)


async def test_those_that_wait_are_served_at_the_rate() -> None:
    bucket = TokenBucket(100.0, 10)
    began = time.monotonic()
    await asyncio.gather(*(bucket.take(0, seconds=30) for _ in range(30)))
    assert time.monotonic() - began >= 0.19
    assert bucket.waiting() == 0


async def test_the_most_urgent_goes_first() -> None:
    clock = Clock()
    bucket = TokenBucket(64.0, 1, clock)
    await bucket.take(0, seconds=1)
    order: list[int] = []

    async def take(urgency: int) -> None:
        await bucket.take(urgency, seconds=30)
        order.append(urgency)

    async with asyncio.TaskGroup() as group:
        for urgency in (2, 1, 2, 0, 1):
            group.create_task(take(urgency))
        async with asyncio.timeout(30):
            while bucket.waiting() < 5:  # noqa: ASYNC110 - no token comes before all wait
                await asyncio.sleep(0)
        for served in range(1, 6):
            clock.now += 1 / 64
            async with asyncio.timeout(30):
                while len(order) < served:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
    assert order == [0, 1, 1, 2, 2]


async def test_a_token_that_does_not_come_is_a_timeout_and_is_not_lost() -> None:
    clock = Clock()
    bucket = TokenBucket(0.5, 1, clock)
    await bucket.take(0, seconds=1)
    with pytest.raises(TimeoutError):
        await bucket.take(0, seconds=0.01)
    assert bucket.waiting() == 0
    clock.now += 2.0
    await bucket.take(0, seconds=0)


async def test_one_that_is_cancelled_takes_none() -> None:
    clock = Clock()
    bucket = TokenBucket(16.0, 1, clock)
    await bucket.take(0, seconds=1)
    first = asyncio.create_task(bucket.take(0, seconds=30))
    second = asyncio.create_task(bucket.take(1, seconds=30))
    await asyncio.sleep(0)
    first.cancel()
    clock.now += 1 / 16  # one token, and no more
    async with asyncio.timeout(30):
        await second


async def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    bucket = TokenBucket(1000.0, 10)
    began = time.monotonic()  # before the pause begins: this process may stand still in between
    bucket.close_for(0.2)
    await bucket.take(0, seconds=30)
    assert time.monotonic() - began >= 0.2
