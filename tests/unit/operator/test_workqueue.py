"""The queue of keys to reconcile: order, retries, bounds, and what it says about itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from taskfleet.cancellation import end
from taskfleet_operator.control.api.api_connection import ApiError, NotLeadingError
from taskfleet_operator.control.store.cluster_store import Key
from taskfleet_operator.control.workqueue import WorkQueue


def key(name: object) -> Key:
    return "shop", str(name)


@contextlib.asynccontextmanager
async def running(
    handle: Callable[[Key], Awaitable[float | None]], workers: int = 1, **options: Any
) -> AsyncIterator[WorkQueue]:
    work = WorkQueue(handle, workers, **options)
    task = asyncio.create_task(work.run())
    try:
        yield work
    finally:
        async with asyncio.timeout(30):
            await end([task])


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Recorder:
    """Handles keys; a key whose gate is closed waits for it, and one with an error raises it once."""

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.errors: dict[str, list[Exception]] = {}
        self.again_after: float | None = None

    async def __call__(self, one: Key) -> float | None:
        self.handled.append(one[1])
        if gate := self.gates.get(one[1]):
            await gate.wait()
        if errors := self.errors.get(one[1]):
            raise errors.pop()
        return self.again_after

    def close(self, name: str) -> asyncio.Event:
        gate = self.gates[name] = asyncio.Event()
        return gate


async def test_a_key_is_handled_once_however_often_it_is_added_before() -> None:
    handle = Recorder()
    async with running(handle) as work:
        gate = handle.close("first")
        work.add(key("first"))
        await until(lambda: handle.handled)
        for _ in range(5):
            work.add(key("a"))
            work.add(key("first"))  # during its own call: once more afterwards
        assert work.depth == 1
        gate.set()
        await until(lambda: len(handle.handled) == 3)
        assert handle.handled == ["first", "a", "first"]
        assert work.depth == 0


async def test_a_change_goes_before_the_resyncs_that_wait() -> None:
    handle = Recorder()
    async with running(handle) as work:
        gate = handle.close("first")
        work.add(key("first"))
        await until(lambda: handle.handled)
        for number in range(50):
            work.add(key(number), after=0.001)
        await until(lambda: work.depth == 50)
        work.add(key("changed"))
        work.add(key(49))  # its resync waits already; now it has changed
        gate.set()
        await until(lambda: len(handle.handled) == 52)
        assert handle.handled[1:3] == ["changed", "49"]
        assert sorted(handle.handled[3:], key=int) == [str(number) for number in range(49)]


async def test_changes_without_end_do_not_starve_a_resync() -> None:
    handle = Recorder()
    async with running(handle) as work:
        gate = handle.close("first")
        work.add(key("first"))
        await until(lambda: handle.handled)
        work.add(key("resync"), after=0.001)
        await until(lambda: work.depth == 1)
        for number in range(20):
            work.add(key(number))
        gate.set()
        await until(lambda: len(handle.handled) == 22)
        assert handle.handled.index("resync") <= 6


async def test_one_key_that_hangs_holds_one_worker_and_not_for_ever() -> None:
    handle = Recorder()
    handle.close("hangs")
    async with running(handle, workers=2, call_seconds=60.0) as work:
        work.add(key("hangs"))
        await until(lambda: handle.handled)
        for number in range(20):
            work.add(key(number))
        await until(lambda: len(handle.handled) >= 21)
        assert handle.handled.count("hangs") == 1, "the others did not wait for its end"
    handle.handled.clear()
    async with running(handle, workers=2, call_seconds=0.05) as work:
        work.add(key("hangs"))
        await until(lambda: handle.handled.count("hangs") > 1)  # cancelled, and made again


async def test_what_it_says_about_itself() -> None:
    handle = Recorder()
    gate = handle.close("slow")
    async with running(handle) as work:
        assert (work.depth, work.oldest_seconds, work.longest_call_seconds) == (0, 0.0, 0.0)
        began = time.monotonic()
        work.add(key("slow"))
        await until(lambda: handle.handled)
        work.add(key("waits"))
        await until(lambda: work.oldest_seconds > 0.02)
        assert work.depth == 1
        assert 0.02 < work.longest_call_seconds <= time.monotonic() - began + 0.1
        gate.set()
        await until(lambda: work.depth == 0 and work.longest_call_seconds == 0.0)


async def test_a_failure_is_tried_again_and_the_servers_pause_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    handle = Recorder()
    handle.errors["refused"] = [ApiError(429, "slow down", retry_after=1.5)]
    handle.errors["fails"] = [ValueError("odd"), ValueError("odd")]
    async with running(handle) as work:
        began = time.monotonic()
        work.add(key("fails"))
        work.add(key("refused"))
        await until(lambda: handle.handled.count("fails") == 3)
        await until(lambda: handle.handled.count("refused") == 2)
        assert time.monotonic() - began >= 1.5
    assert "shop/refused: slow down (429) (again in 1.5 s)" in caplog.text


async def test_a_write_that_is_not_allowed_now_is_tried_again_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    handle = Recorder()
    handle.errors["a"] = [NotLeadingError("PATCH")]
    async with running(handle) as work:
        work.add(key("a"))
        work.add(key("b"))
        await until(lambda: handle.handled == ["a", "b", "a"])
    assert not caplog.text


async def test_resyncs_that_begin_together_drift_apart() -> None:
    handle = Recorder()
    handle.again_after = 100.0
    async with running(handle, workers=4) as work:
        clock = asyncio.get_running_loop().time
        now = clock()
        for number in range(100):
            work.add(key(number))
        await until(lambda: len(handle.handled) == 100 and work.longest_call_seconds == 0.0)
        took = clock() - now
        due = sorted(timer.when() - now for timer in work._timers.values())
        assert 80.0 <= due[0] < 90.0 + took
        assert 110.0 < due[-1] <= 121.0 + took


async def test_it_ends_with_a_call_under_way() -> None:
    handle = Recorder()
    handle.close("hangs")
    async with running(handle, workers=3) as work:
        work.add(key("hangs"))
        await until(lambda: handle.handled)
