"""One reading for all TaskQueues of a Redis, and the listener that wakes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from taskfleet.errors import BrokerConnectionError
from taskfleet.protocol.figures import Figures, Horizons
from taskfleet_operator.scaling import listener as listening
from taskfleet_operator.scaling.shared_redis import SharedRedis
from tests.unit.operator.builders import STATS, worker


class FakeRedis:
    """Counts what is asked for. `poison` is a queue whose keys cannot be read; `silent` never answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[frozenset[str], bool]] = []
        self.poison = ""
        self.silent = False
        self.announcements: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.subscriptions = 0
        self.stats = STATS

    async def figures(self, horizons: Mapping[str, Horizons], *, workers: bool = True) -> Figures:
        self.asked.append((frozenset(horizons), workers))
        if self.silent:
            await asyncio.Event().wait()
        failures = {name: BrokerConnectionError("WRONGTYPE") for name in horizons if name == self.poison}
        stats = {name: self.stats for name in horizons if name not in failures}
        return Figures(stats, [worker("a")] if workers else [], failures=failures)

    async def activity(self) -> AsyncIterator[str]:
        self.subscriptions += 1
        yield ""
        while True:
            said = await self.announcements.get()
            if said is None:
                return
            if isinstance(said, Exception):
                raise said
            yield said

    async def cordon(self, name: str, *, ttl_seconds: float) -> None: ...

    async def uncordon(self, name: str) -> None: ...


class Shared:
    """A `SharedRedis` over a `FakeRedis`, and what was heard."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.server = FakeRedis()
        self.heard: list[str] = []
        self.news = asyncio.Event()
        self.redis = SharedRedis("Redis", self.server, self._hear, seconds=seconds)

    def _hear(self, queue: str) -> None:
        self.heard.append(queue)
        self.news.set()

    async def until_heard(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def shared() -> AsyncIterator[Shared]:
    made = Shared()
    yield made
    await made.redis.close()


async def test_loops_that_ask_together_are_answered_by_one_reading(shared: Shared) -> None:
    many = [shared.redis.read({f"queue-{number}": (30_000, 5_000)}) for number in range(60)]
    answers = await asyncio.gather(*many)
    assert len(shared.server.asked) == 1
    assert len(shared.server.asked[0][0]) == 60
    assert all(answer.workers["a"] for answer in answers)
    first = {id(answer.workers) for answer in answers}
    assert len(first) == 1, "the workers are sorted by name once"


async def test_polls_of_equal_intervals_come_together(shared: Shared) -> None:
    times = {shared.redis.next_poll(1000.0 + number / 7, 5.0) for number in range(10)}
    assert len(times) <= 2
    assert all(1000 < at <= 1007 for at in times)
    (at, *_) = times
    assert shared.redis.next_poll(at, 5.0) == pytest.approx(at + 5.0)


async def test_a_wake_reads_only_its_queue_and_does_not_wait_for_a_poll() -> None:
    shared = Shared(seconds=60.0)
    shared.server.silent = True
    poll = asyncio.ensure_future(shared.redis.read({f"queue-{number}": (1, 1) for number in range(500)}))
    async with asyncio.timeout(30):
        while not shared.server.asked:  # noqa: ASYNC110 - the fake has no event for it
            await asyncio.sleep(0)
    shared.server.silent = False
    async with asyncio.timeout(30):
        await shared.redis.read({"orders": (1, 1)}, urgent=True, workers=False)
    assert shared.server.asked[1][0] == {"orders"}
    assert not poll.done()
    poll.cancel()
    await shared.redis.close()


async def test_a_wake_may_use_the_heartbeats_of_the_last_poll(shared: Shared) -> None:
    await shared.redis.read({"orders": (1, 1)})
    seen = await shared.redis.read({"orders": (1, 1)}, urgent=True, workers=False)
    assert [workers for _, workers in shared.server.asked] == [True, False]
    assert (seen.fresh, len(seen.workers["a"])) == (False, 1)


async def test_a_queue_that_cannot_be_read_fails_alone(shared: Shared) -> None:
    shared.server.poison = "queue-7"
    many = [shared.redis.read({f"queue-{number}": (1, 1)}) for number in range(20)]
    answers = await asyncio.gather(*many, return_exceptions=True)
    failed = [number for number, answer in enumerate(answers) if isinstance(answer, Exception)]
    assert failed == [7]


async def test_other_horizons_for_the_same_queue_are_another_reading(shared: Shared) -> None:
    await asyncio.gather(shared.redis.read({"a": (1, 1)}), shared.redis.read({"a": (2, 2)}))
    assert len(shared.server.asked) == 2


async def test_a_redis_that_never_answers_is_an_error_in_time() -> None:
    shared = Shared(seconds=0.05)
    shared.server.silent = True
    async with asyncio.timeout(30):
        with pytest.raises(BrokerConnectionError, match="has not answered"):
            await shared.redis.read({"a": (1, 1)})
        shared.server.silent = False
        shared.redis.reader._seconds = 5.0  # the next one answers, and a busy machine may need more than that moment
        assert (await shared.redis.read({"a": (1, 1)})).stats["a"] == STATS
        await shared.redis.close()


async def test_a_listener_that_ends_or_raises_is_started_again(shared: Shared) -> None:
    await shared.until_heard(1)
    shared.server.announcements.put_nowait(None)
    await shared.until_heard(2)
    shared.server.announcements.put_nowait(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
    await shared.until_heard(3)
    shared.server.announcements.put_nowait("orders")
    await shared.until_heard(4)
    assert shared.heard == ["", "", "", "orders"]
    assert (shared.server.subscriptions, shared.redis.listener.restarts) == (3, 2)


async def test_a_listener_that_hears_nothing_of_tasks_is_started_again(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(listening, "_MARGIN_SECONDS", 0.0)
    await shared.until_heard(1)
    empty, full = replace(STATS, ready=0), replace(STATS, ready=1, enqueued_total=STATS.enqueued_total + 1)
    for number in range(3):
        assert shared.redis.listener.restarts == 0, number
        shared.redis.listener.compare({"orders": empty})
        shared.redis.listener.compare({"orders": full})
        await asyncio.sleep(0.01)
    await shared.until_heard(2)
    assert shared.redis.listener.restarts == 1


async def test_a_subscription_without_an_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "_SUBSCRIBED_WITHIN_SECONDS", 0.0)

    class Deaf(FakeRedis):
        async def activity(self) -> AsyncIterator[str]:
            self.subscriptions += 1
            await asyncio.Event().wait()
            yield ""

    server = Deaf()
    redis = SharedRedis("Redis", server, lambda _queue: None)
    assert "not announced" in redis.notice
    await redis.read({"a": (1, 1)})
    await redis.read({"a": (1, 1)})
    assert server.subscriptions >= 2
    await redis.close()
