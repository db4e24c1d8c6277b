"""Eager mode: a task that is enqueued runs at once, before the call that enqueues it returns."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from taskfleet import sync
from taskfleet.application import Application
from taskfleet.context import CURRENT
from taskfleet.errors import TaskQueueError
from taskfleet.handles import GroupHandle, HandleFactory, TaskHandle
from taskfleet.memory.broker import InMemoryBroker
from taskfleet.producer.producer import Producer
from taskfleet.protocol.broker import Broker
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.message import Message
from taskfleet.tasks.options import TaskOptions
from taskfleet.testing.calling_thread import Callers, CallingThreads
from taskfleet.testing.inline import InlineWorker
from taskfleet.testing.watched_worker import WatchedWorker
from taskfleet.workflows import WorkflowPlan

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

_LOOK_AGAIN_SECONDS = 0.02
_DEEPEST = 100  # tasks inside tasks
_SLOTS = 1000


@contextlib.contextmanager
def eager(
    queue: TaskQueue,
    *,
    raise_errors: bool = True,
    timeout: float = 30.0,
    clock: Callable[[], float] | None = None,
) -> Generator[InlineWorker]:
    """Keep the tasks of `queue` in memory inside the `with` block, and run each before its `enqueue` returns.

        with eager(app.queue):
            await app.sign_up("a@b.c")     # the mail is sent when this returns

    Nothing else differs from a worker: arguments and results are checked and encoded, and timeouts, limits, middleware
    and dependencies apply. Retries are tried at once, by moving the clock. A task with a delay waits for its time:
    `worker.advance(…)` and `worker.run_until_idle()`. Tasks that tasks enqueue run before those continue.

    Plain functions that were enqueued by code without an event loop (`enqueue_sync`) run in its thread, so that they
    see its transaction.

    Args:
        raise_errors: the call that enqueues a task raises the `TaskExecutionError` of it; its `__cause__` is the task's
            own exception. Otherwise `handle.result()` does.
        timeout: real seconds for the tasks of one call, before `TimeoutError` names those that are left.
        clock: as for `in_memory`.
    """
    callers = Callers()
    broker = InMemoryBroker(clock=clock)
    with contextlib.ExitStack() as stack:
        run = EagerRun(callers, raise_errors=raise_errors, timeout=timeout)
        stack.enter_context(queue.sessions.on(broker, functools.partial(EagerProducer, run)))
        stack.enter_context(sync.waiting_with(callers.wait))
        run.worker = worker = EagerWorker(queue, run)
        yield worker


class EagerRun:
    """Runs tasks as they are enqueued, on the loop of the call. Any number of loops and threads may call."""

    worker: EagerWorker

    def __init__(self, callers: Callers, *, raise_errors: bool, timeout: float) -> None:
        self.callers = callers
        self._raise_errors = raise_errors
        self._timeout = timeout
        self._is_driven = False
        self._is_too_deep = False
        self._depths: dict[str, int] = {}
        self.suspended: Counter[str] = Counter()  # running tasks that wait for a task that they have enqueued

    async def __call__(self, sent: Sequence[str]) -> None:
        """Run the tasks of these ids, which have just been enqueued."""
        make = CURRENT.get()
        parent = make().id if make is not None else None
        depth = self._depths.get(parent or "", 0) + 1
        self._depths |= dict.fromkeys(sent, depth)
        if depth > _DEEPEST:
            self._is_too_deep = True
        self.check()
        ids = set(sent)
        if parent is not None:
            self.suspended[parent] += 1
        try:
            async with asyncio.timeout(self._timeout):
                await self._until_settled(ids)
        except TimeoutError:
            left = self.worker.left()
            raise TimeoutError(f"eager mode: after {self._timeout:g} s there is still work for {left}") from None
        finally:
            if parent is not None:
                self.suspended[parent] -= 1
                self.suspended += Counter()  # without those that are zero
        if self._raise_errors:
            for error in self.worker.failures():
                if error.task_id in ids:
                    raise error

    def check(self) -> None:
        """End all calls of this eager mode when a task enqueues itself without end: the tasks would retry that."""
        if self._is_too_deep:
            raise TaskQueueError(
                f"eager mode: tasks enqueue tasks {_DEEPEST} levels deep; use in_memory(queue) and "
                "await worker.run_until_idle(), which runs them one after the other"
            )

    async def _until_settled(self, ids: set[str]) -> None:
        with self.worker.broker.store.watching() as changed:
            while not self.worker.settled(ids):
                changed.clear()
                if self._is_driven:
                    if self.worker.is_stuck():
                        return  # only when the task that waits here has ended can the new one start
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                            await changed.wait()
                    continue
                self._is_driven = True
                try:
                    if not await self.worker.drive():
                        return
                finally:
                    self._is_driven = False


class EagerWorker(InlineWorker):
    """The worker of eager mode: it runs while a call enqueues."""

    def __init__(self, queue: TaskQueue, run: EagerRun) -> None:
        super().__init__(queue)
        self._run_of = run

    def settled(self, ids: set[str]) -> bool:
        """Whether none of these tasks is about to run."""
        return self._outlook.settled(ids)

    def is_stuck(self) -> bool:
        """Whether nothing can run before one of the tasks that wait for others has ended."""
        with self._store.lock:
            return not self._outlook.is_busy(self._apart()) and self._outlook.next_event("retries") is None

    async def drive(self) -> bool:
        """Run what can run, through rate limits and retries; returns whether anything did."""
        ended = self._ended()
        await self._drive("retries")
        return self._ended() > ended

    def left(self) -> str:
        return self._left_at_cancellation or self._left()

    def _apart(self) -> frozenset[str]:
        self._run_of.check()
        return frozenset(self._run_of.suspended)

    def _new_worker(self, queues: Sequence[str]) -> WatchedWorker:
        worker = _EagerTaskWorker(self.queue, self._raised, queues=queues, concurrency=_SLOTS)
        assert isinstance(worker.threads, CallingThreads)
        worker.threads.callers = self._run_of.callers
        return worker


class _EagerTaskWorker(WatchedWorker):
    threads_class = CallingThreads


class EagerProducer(Producer):
    """Sends, and runs what was sent."""

    def __init__(self, run: EagerRun, application: Application, broker: Broker, handle: HandleFactory) -> None:
        super().__init__(application, broker, handle)
        self._run = run
        self._send_many = self.many
        self.many = self._many
        self.plain_calls = self._no_plain_calls

    async def one(self, message: Message[Any]) -> TaskHandle[Any]:
        """Send one message and run it."""
        handle = await super().one(message)
        await self._ran([handle.id])
        return handle

    async def _many(self, messages: Sequence[Message[Any]], *, wait_for_room: float) -> list[TaskHandle[Any]]:
        handles = await self._send_many(messages, wait_for_room=wait_for_room)
        await self._ran([handle.id for handle in handles])
        return handles

    async def _no_plain_calls(self, task: Definition, options: TaskOptions, calls: Sequence[tuple[Any, ...]]) -> None:
        """All calls become messages, which are run."""

    async def workflow(self, plan: WorkflowPlan) -> TaskHandle[Any] | GroupHandle:
        end = await super().workflow(plan)
        # Of all nodes, since what ends a workflow is cancelled, and has no error of its own, when one before it fails.
        await self._ran([node.id for node in plan.nodes])
        return end

    async def _ran(self, sent: Sequence[str]) -> None:
        make = CURRENT.get()
        for each in sent:
            self._run.callers.note(each, make().id if make is not None else None)
        await self._run(sent)
