"""Runs the tasks that a test has enqueued, in the process and event loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from taskfleet.errors import ConfigurationError, TaskExecutionError
from taskfleet.memory.broker import InMemoryBroker
from taskfleet.memory.enqueued import EnqueuedTask
from taskfleet.memory.model import QueueModel
from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.protocol.partitions import queue_of

if TYPE_CHECKING:
    from taskfleet.handles import GroupHandle, TaskHandle
    from taskfleet.queue import TaskQueue
    from taskfleet.tasks.class_task import AsyncTask
    from taskfleet.tasks.function import TaskFunction
    from taskfleet.tasks.member import Member, NoTaskBefore

R = TypeVar("R")
Results = TypeVar("Results", bound=tuple[Any, ...])

_LOOK_AGAIN_SECONDS = 0.02


class InlineWorker:
    """A worker that runs when the test calls it.

    Tasks run as in production: their payloads are decoded, and their timeouts, retries, middleware and dependencies
    apply; plain functions run in threads. Errors: `ConfigurationError` when the queue is not in memory.
    """

    def __init__(self, queue: TaskQueue) -> None:
        if not isinstance(queue.broker, InMemoryBroker):
            raise ConfigurationError(
                f"an InlineWorker needs a queue in memory, not at {queue.url}: use TaskQueue(broker=InMemoryBroker()), "
                "or taskfleet.testing.in_memory(queue)"
            )
        self.queue = queue
        self._store = queue.broker.store

    @property
    def broker(self) -> InMemoryBroker:
        broker = self.queue.broker
        assert isinstance(broker, InMemoryBroker)
        return broker

    def enqueued(self, task: str | TaskFunction[Any, Any, Any] | None = None) -> list[EnqueuedTask]:
        """The accepted tasks in order, finished ones included; with `task`, those of one name or task function."""
        return self.broker.enqueued(task if task is None or isinstance(task, str) else task.name)

    def advance(self, seconds: float) -> None:
        """Move the time forward without waiting: see `InMemoryBroker.advance`."""
        self._store.advance(seconds)

    async def run_until_idle(
        self, *, through_delays: bool = False, raise_errors: bool = False, timeout: float = 30.0
    ) -> int:
        """Run tasks, and tasks that they enqueue, until none is ready or running; returns the number of finished tasks.

        Args:
            through_delays: when only delayed tasks, retries and rate limits are left, move the time forward.
            raise_errors: raise the `TaskExecutionError` of the first task that became a dead letter.
            timeout: real seconds before `TimeoutError`, regardless of `advance`.

        Tasks of paused queues, and tasks that wait for tasks that do not run, stay in their queues.
        """
        letters = {task_id for model in self._models() for task_id in model.letters}
        ended = self._ended()
        try:
            async with asyncio.timeout(timeout):
                while self._busy() or (through_delays and self._skip_delay()):
                    async with self._working():
                        await self._idle(through_delays)
        except TimeoutError:
            raise TimeoutError(f"after {timeout:g} s there is still work for {self._left()}") from None
        if raise_errors:
            self._raise_first(letters)
        return self._ended() - ended

    @overload
    async def execute(self, task: AsyncTask[R]) -> R: ...

    @overload
    async def execute(self, task: Member[NoTaskBefore, object, TaskHandle[R]]) -> R: ...

    @overload
    async def execute(self, task: Member[NoTaskBefore, object, GroupHandle[Results]]) -> Results: ...

    async def execute(self, task: Any) -> Any:
        """Enqueue a message, class task or workflow, run until idle, through delays and retries; returns its result.

        Errors: as `TaskHandle.result`.
        """
        handle: Any = await self.queue.enqueue(task)
        waiting = asyncio.create_task(handle.result())
        try:
            await self.run_until_idle(through_delays=True)
            async with asyncio.timeout(1.0):
                return await waiting
        finally:
            waiting.cancel()

    # Unfinished tasks.

    def _models(self) -> list[QueueModel]:
        return list(self._store.models.values())

    def _busy(self) -> bool:
        with self._store.lock:
            now = self._store.now()
            return any(_has_work(model, now) for model in self._models())

    def _ended(self) -> int:
        return sum(model.counts["finished"] for model in self._models())

    def _skip_delay(self) -> bool:
        """Move the time to the next due task; false when there is none."""
        with self._store.lock:
            due = [
                at
                for model in self._models()
                if not model.paused
                for at in (model.delayed.first_score(), model.retry_at.first_score())
                if at is not None
            ]
            if not due:
                return False
            self._store.advance(max(1.0, min(due) - self._store.now()) / 1000)
            return True

    @contextlib.asynccontextmanager
    async def _working(self) -> AsyncGenerator[None]:
        from taskfleet.runtime.worker import Worker

        queues = sorted(
            {queue_of(name) for name in self._store.models} | {o.name for o in self.queue.application.queue_options}
        )
        worker = Worker(self.queue, queues=queues, name="inline")
        running = asyncio.create_task(worker.run())
        try:
            yield
            worker.drain()
        except BaseException:
            worker.drain()
            worker.end_grace()  # interrupts the tasks that are still running
            raise
        finally:
            await running

    async def _idle(self, through_delays: bool) -> None:
        """Wait until the running worker has no more work."""
        queues = self._store.models.keys()
        with self._store.watching() as changed:
            while self._store.models.keys() == queues:
                changed.clear()
                if not self._busy() and not (through_delays and self._skip_delay()):
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await changed.wait()

    def _left(self) -> str:
        """The tasks that have not ended, by name and queue."""
        unfinished = {task_id for model in self._models() for task_id in model.tasks}
        left = Counter(f"{one.name} in {one.queue}" for one in self.enqueued() if one.id in unfinished)
        return ", ".join(f"{count} {task}" for task, count in left.most_common(5))

    def _raise_first(self, known: set[str]) -> None:
        for model in self._models():
            for task_id in model.dead:
                if task_id not in known:
                    letter = DeadLetter.of_packed(
                        task_id,
                        model.letters[task_id].packed(),
                        queue=queue_of(model.name),
                        seal=self.queue.application.seal,
                    )
                    message = f"task {letter.task!r} ({task_id}) {letter.state}: {letter.error}"
                    raise TaskExecutionError(message, task_id=task_id, traceback=letter.traceback)


def _has_work(model: QueueModel, now: int) -> bool:
    """Whether a worker runs, or could claim, a task of this partition."""
    if model.leases or model.outbox:
        return True
    if model.paused:
        return False
    waiting = len(model.ready) - model.counts["removed"] + len(model.fair)
    return waiting > 0 or model.delayed.count_up_to(now) > 0 or model.retry_at.count_up_to(now) > 0
