"""Hooks that raise or hang cost neither an outcome, nor a slot, nor a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from taskfleet import Middleware, Retry, TaskExecutionError, middleware
from tests.engine.conftest import MakeQueue, RunWorker, until


class _Raises(Middleware):
    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.told: list[str] = []
        self._make = make

    async def on_retry(self, task: Any, reason: str, error: str, delay: float) -> None:
        self.told.append("retry")
        raise self._make()

    async def on_dead(self, task: Any, reason: str, error: str) -> None:
        self.told.append("dead")
        raise self._make()

    async def shutdown(self, worker: Any) -> None:
        self.told.append("shutdown")
        raise self._make()


@pytest.mark.parametrize(
    "make", [lambda: SystemExit(1), KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopAsyncIteration]
)
async def test_an_error_of_a_hook_is_only_logged(
    make_queue: MakeQueue, run_worker: RunWorker, make: Callable[[], BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    first, second = _Raises(make), _Raises(make)
    queue = make_queue(middleware=[first, second])

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def fails() -> None:
        raise ValueError

    worker = await run_worker(queue)
    handles = await queue.enqueue_many([fails.message() for _ in range(3)])
    await until(lambda: second.told.count("dead") == 3, "the last hook is told of all")
    for handle in handles:
        with pytest.raises(TaskExecutionError):
            await handle.result(timeout=30)  # a hook may be told before the end is recorded
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    assert first.told.count("retry") == second.told.count("retry") == 3
    assert (first.told[-1], second.told[-1]) == ("shutdown", "shutdown")
    assert "_Raises.on_dead failed" in caplog.text


class _Hangs(Middleware):
    def __init__(self, release: asyncio.Event) -> None:
        self._release = release

    async def on_dead(self, task: Any, reason: str, error: str) -> None:
        await self._hang()

    async def shutdown(self, worker: Any) -> None:
        await self._hang()

    async def _hang(self) -> None:
        while not self._release.is_set():
            with contextlib.suppress(BaseException):
                await self._release.wait()


async def test_a_hook_that_hangs_holds_neither_a_slot_nor_the_end_of_its_worker(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(middleware, "SHUTDOWN_SECONDS", 0.1)
    monkeypatch.setattr("taskfleet.runtime.recording.hook_calls._TELL_SECONDS", 0.1)
    release = asyncio.Event()
    queue = make_queue(middleware=[_Hangs(release)])

    @queue.task(max_retries=0)
    async def fails() -> None:
        raise ValueError

    worker = await run_worker(queue, concurrency=1)
    handles = await queue.enqueue_many([fails.message() for _ in range(3)])
    await until(lambda: worker.tally.finished == 3, "all have had the one slot")
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")
    assert [await handle.status() for handle in handles] == ["failed"] * 3
    assert "_Hangs.shutdown hangs" in caplog.text
    release.set()
