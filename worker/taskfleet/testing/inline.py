"""Runs the tasks that a test has enqueued, in the process and event loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from taskfleet import checks, sync
from taskfleet.errors import ConfigurationError, TaskExecutionError
from taskfleet.handles import GroupHandle, failure
from taskfleet.memory.broker import InMemoryBroker
from taskfleet.memory.enqueued import EnqueuedTask
from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.protocol.partitions import queue_of
from taskfleet.testing import matching
from taskfleet.testing.outlook import Delays, Outlook

if TYPE_CHECKING:
    from taskfleet.handles import TaskHandle
    from taskfleet.queue import TaskQueue
    from taskfleet.tasks.class_task import AsyncTask, Task
    from taskfleet.tasks.function import TaskFunction
    from taskfleet.tasks.member import Member, NoTaskBefore
    from taskfleet.testing.watched_worker import WatchedWorker

R = TypeVar("R")
Results = TypeVar("Results", bound=tuple[Any, ...])

_LOOK_AGAIN_SECONDS = 0.02
_MOST_NAMED = 5
_RESULT_SECONDS = 10.0  # for a result that is there
_UNFINISHED = frozenset({"delayed", "blocked", "ready", "running", "retrying"})


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
        self._outlook = Outlook(queue.application, self._store)
        self._raised: dict[str, BaseException] = {}
        self._left_at_cancellation = ""
        self._before_time_passes: Callable[[], Coroutine[Any, Any, None]] = _nothing

    @property
    def broker(self) -> InMemoryBroker:
        broker = self.queue.broker
        assert isinstance(broker, InMemoryBroker)
        return broker

    @property
    def now(self) -> dt.datetime:
        """The time by the clock that `advance` moves."""
        return dt.datetime.fromtimestamp(self._store.now() / 1000, dt.UTC)

    # What was enqueued.

    def enqueued(self, task: str | TaskFunction[Any, Any, Any] | type[Task[Any]] | None = None) -> list[EnqueuedTask]:
        """The accepted tasks in order, finished ones included; with `task`, those of one name, function or class."""
        return self.broker.enqueued(matching.name_of(task))

    def assert_enqueued(
        self,
        task: str | TaskFunction[Any, Any, Any] | type[Task[Any]] | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: float | dt.timedelta | None = None,
        within: float | dt.timedelta | None = None,
        times: int | None = None,
    ) -> EnqueuedTask:
        """Assert that such a task was enqueued, in any state by now; returns the last one.

        Args:
            args: all arguments, unless `kwargs` has more. Each may have been given by position or by name, and may be
                written as a value (`date(2026, 1, 2)`) or as it was encoded (`"2026-01-02"`).
            kwargs: some of the arguments by name.
            delay: seconds between the enqueue and its due time, up to 1 s more or less.
            within: due at most this many seconds from now.
            times: exactly this many; by default at least one.

        Errors: `AssertionError` lists what was enqueued.
        """
        __tracebackhide__ = True
        expected = matching.expected(task, args, kwargs, queue, delay, within)
        found = self._matching(expected)
        if len(found) != times if times is not None else not found:
            count = "a task" if times is None else f"{times} times"
            raise AssertionError(matching.problem(expected, count, len(found), self.enqueued()))
        return found[-1] if found else EnqueuedTask("", "", "", [], {})

    def assert_not_enqueued(
        self,
        task: str | TaskFunction[Any, Any, Any] | type[Task[Any]] | None = None,
        *,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        delay: float | dt.timedelta | None = None,
        within: float | dt.timedelta | None = None,
    ) -> None:
        """Assert that no such task was enqueued; see `assert_enqueued`."""
        __tracebackhide__ = True
        expected = matching.expected(task, args, kwargs, queue, delay, within)
        if found := self._matching(expected):
            raise AssertionError(matching.problem(expected, "no task", len(found), self.enqueued()))

    def _matching(self, expected: matching.Expected) -> list[EnqueuedTask]:
        now_ms = self.now.timestamp() * 1000
        return [task for task in self.enqueued() if expected.matches(task, self.queue.application, now_ms)]

    def waiting(self) -> list[str]:
        """The tasks that have not ended, as lines: how many, which, where, and what they wait for."""
        return self._outlook.waiting()

    def failures(self) -> list[TaskExecutionError]:
        """The errors of the tasks that have failed for good, in order; `__cause__` is the exception of the task."""
        return [self._error_of(letter) for letter in self._letters()]

    # Time.

    def advance(self, seconds: float | dt.timedelta) -> None:
        """Move the time forward in one leap, without waiting: see `InMemoryBroker.advance`.

        It is like a time in which no worker and no scheduler ran. `run_for` is like one in which they did.
        """
        self._store.advance(checks.seconds("seconds", seconds))

    def crash(self, tasks: int = 1) -> int:
        """Let a worker claim up to `tasks` ready tasks and die: their leases run out as time passes.

        Returns how many it has claimed.
        """
        owner = f"crashed-{len(self._store.crashed)}"
        self._store.crashed.add(owner)
        claimed = 0
        for name in list(self._store.models):
            with self._store.queue(name) as model:
                options = self.queue.application.options_of(name)
                claimed += len(model.step(self._store.now(), options, owner, tasks - claimed, []).claims)
        return claimed

    # Running.

    async def run_until_idle(
        self, *, through_delays: bool = False, raise_errors: bool = False, timeout: float = 30.0
    ) -> int:
        """Run tasks, and tasks that they enqueue, until none is ready or running; returns the number of finished tasks.

        The time of rate limits and of the windows of batches is passed. Ticks of schedules that are due fire; future
        ticks are no work.

        Args:
            through_delays: pass the time of delays and retries too, until no task is left.
            raise_errors: raise the `TaskExecutionError` of the first task that became a dead letter.
            timeout: real seconds before `TimeoutError`, regardless of `advance`; it names the tasks that are left.

        Tasks of paused queues, and tasks that wait for tasks that do not run, stay in their queues.
        """
        return await self._run("all" if through_delays else "none", None, raise_errors, timeout)

    async def run_for(self, seconds: float | dt.timedelta, *, raise_errors: bool = False, timeout: float = 30.0) -> int:
        """Run tasks while this much time passes: what becomes due runs at its time, and every tick fires at its own.

        No time is waited for. Arguments and the result are those of `run_until_idle`.
        """
        until = self.now.timestamp() * 1000 + checks.seconds("seconds", seconds) * 1000
        return await self._run("all", until, raise_errors, timeout)

    async def run_until(self, when: dt.datetime, *, raise_errors: bool = False, timeout: float = 30.0) -> int:
        """`run_for` until a moment, a datetime with a time zone. A moment in the past only runs what is ready."""
        if when.tzinfo is None:
            raise ConfigurationError(f"run_until({when!r}): the datetime needs a time zone, e.g. tzinfo=datetime.UTC")
        return await self._run("all", when.timestamp() * 1000, raise_errors, timeout)

    @overload
    async def execute(self, task: AsyncTask[R]) -> R: ...

    @overload
    async def execute(self, task: Member[NoTaskBefore, object, TaskHandle[R]]) -> R: ...

    @overload
    async def execute(self, task: Member[NoTaskBefore, object, GroupHandle[Results]]) -> Results: ...

    async def execute(self, task: Any) -> Any:
        """Enqueue a message, class task or workflow, run until idle, through delays and retries; returns its result.

        Errors: as `TaskHandle.result`; `__cause__` is the exception of the task.
        """
        handle: Any = await self.queue.enqueue(task)
        waiting = asyncio.create_task(handle.result())

        async def take() -> None:
            """Take the result while it is there: the time that other tasks wait for may be longer than it is kept."""
            if not waiting.done() and not await _is_unfinished(handle):
                await asyncio.wait({waiting}, timeout=_RESULT_SECONDS)

        self._before_time_passes = take
        try:
            await self.run_until_idle(through_delays=True)
            if not waiting.done() and await _is_unfinished(handle):
                raise TimeoutError(f"it has no result, and nothing runs; there is {self._left()}")
            async with asyncio.timeout(_RESULT_SECONDS):
                return await waiting
        except TaskExecutionError as error:
            raise error from self._raised.get(error.task_id)
        finally:
            self._before_time_passes = _nothing
            waiting.cancel()

    # The same for tests without an event loop.

    def run_until_idle_sync(
        self, *, through_delays: bool = False, raise_errors: bool = False, timeout: float = 30.0
    ) -> int:
        """`run_until_idle` for tests without an event loop."""
        call = functools.partial(
            self.run_until_idle, through_delays=through_delays, raise_errors=raise_errors, timeout=timeout
        )
        return self._sync(call, "await worker.run_until_idle()")

    def run_for_sync(self, seconds: float | dt.timedelta, *, raise_errors: bool = False, timeout: float = 30.0) -> int:
        """`run_for` for tests without an event loop."""
        call = functools.partial(self.run_for, seconds, raise_errors=raise_errors, timeout=timeout)
        return self._sync(call, "await worker.run_for(…)")

    @overload
    def execute_sync(self, task: AsyncTask[R]) -> R: ...

    @overload
    def execute_sync(self, task: Member[NoTaskBefore, object, TaskHandle[R]]) -> R: ...

    @overload
    def execute_sync(self, task: Member[NoTaskBefore, object, GroupHandle[Results]]) -> Results: ...

    def execute_sync(self, task: Any) -> Any:
        """`execute` for tests without an event loop."""
        return self._sync(functools.partial(self.execute, task), "await worker.execute(…)")

    def _sync(self, call: Callable[[], Coroutine[Any, Any, R]], instead: str) -> R:
        return sync.run(call, instead=instead)

    # How it runs.

    async def _run(self, delays: Delays, until: float | None, raise_errors: bool, timeout: float) -> int:
        known = {letter.id for letter in self._letters()}
        ended = self._ended()
        self._left_at_cancellation = ""
        began = self._store.now()
        try:
            async with asyncio.timeout(timeout):
                await self._drive(delays, until)
        except TimeoutError:
            left = self._left_at_cancellation or self._left()
            moved = (self._store.now() - began) / 1000 - timeout
            virtual = f" ({moved:.0f} s by the moved clock)" if moved > 1 else ""
            raise TimeoutError(f"after {timeout:g} s{virtual} there is still work for {left}") from None
        if raise_errors:
            for letter in self._letters():
                if letter.id not in known:
                    raise self._error_of(letter)
        return self._ended() - ended

    async def _drive(self, delays: Delays, until: float | None = None) -> None:
        await self._tick()
        while self._outlook.is_busy() or await self._pass_time(delays, until):
            await self._tick()
            if not self._outlook.is_busy():
                continue
            async with self._working() as worker:
                await self._idle(worker, delays, until)

    async def _idle(self, worker: WatchedWorker, delays: Delays, until: float | None) -> None:
        """Wait until the running worker has no more work, or there is a queue that it does not know."""
        queues = self._store.models.keys()
        with self._store.watching() as changed:
            while self._store.models.keys() == queues:
                changed.clear()
                await self._tick()
                if self._pass_window(worker):
                    continue
                idle = not self._outlook.is_busy(self._apart()) and not await self._pass_time(delays, until)
                if idle and not self._outlook.is_busy():
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_AGAIN_SECONDS):
                        await changed.wait()

    def _apart(self) -> frozenset[str]:
        """Running tasks that wait for others, and so do not keep the time from passing."""
        return frozenset()

    async def _pass_time(self, delays: Delays, until: float | None) -> bool:
        """Move the time to the next event; false when there is none to wait for."""
        await self._before_time_passes()
        if self._outlook.is_busy(self._apart()):
            return True
        with self._store.lock:
            at = self._outlook.next_event(delays, until)
            if at is None:
                return False
            self._store.advance(max(1.0, at - self._store.now()) / 1000, running_too=False)
            return True

    def _pass_window(self, worker: WatchedWorker) -> bool:
        """Pass the window of a batch when all running tasks gather in batches."""
        gathered, seconds = len(worker.batches), worker.batches.seconds_left()
        if not gathered or seconds is None or seconds <= 0:
            return False
        if not self._outlook.runs_only_gathered(gathered, self._apart()):
            return False
        self._store.advance(seconds, running_too=False)
        worker.batches.move(seconds)
        return True

    async def _tick(self) -> None:
        """Perform the ticks of schedules that are due."""
        while due := [at for at in self._store.ticks() if at <= self._store.now()]:
            from taskfleet.scheduling.scheduler import Scheduler

            scheduler = Scheduler(self.queue.application, self.queue.broker)
            await scheduler.one_pass()
            if [at for at in self._store.ticks() if at <= self._store.now()] == due:
                return  # a full queue, or a schedule that cannot be read

    def _working(self) -> contextlib.AbstractAsyncContextManager[WatchedWorker]:
        queues = {queue_of(name) for name in self._store.models}
        return self._serving(sorted(queues | {one.name for one in self.queue.application.queue_options}))

    @contextlib.asynccontextmanager
    async def _serving(self, queues: Sequence[str]) -> AsyncGenerator[WatchedWorker]:
        """Run a worker of these queues beside the block."""
        worker = self._new_worker(queues)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
            worker.drain()
        except BaseException:
            self._left_at_cancellation = self._left()
            worker.drain()
            worker.end_grace()  # interrupts the tasks that are still running
            raise
        finally:
            await running

    def _new_worker(self, queues: Sequence[str]) -> WatchedWorker:
        from taskfleet.testing.watched_worker import WatchedWorker

        return WatchedWorker(self.queue, self._raised, queues=queues)

    def _ended(self) -> int:
        return sum(model.counts["finished"] for model in self._store.models.values())

    def _left(self) -> str:
        left = self.waiting()
        more = f" and {len(left) - _MOST_NAMED} other kinds" if len(left) > _MOST_NAMED else ""
        return ", ".join(left[:_MOST_NAMED]) + more

    def _letters(self) -> list[DeadLetter]:
        """The dead letters of all queues, the oldest first."""
        with self._store.lock:
            letters = [
                DeadLetter.of_packed(
                    task_id,
                    model.letters[task_id].packed(),
                    queue=queue_of(model.name),
                    seal=self.queue.application.seal,
                )
                for model in self._store.models.values()
                for task_id in model.dead
            ]
        return sorted(letters, key=lambda letter: letter.died_at)

    def _error_of(self, letter: DeadLetter) -> TaskExecutionError:
        error = failure(letter)
        error.__cause__ = self._raised.get(letter.id)
        return error


async def _nothing() -> None:
    pass


async def _is_unfinished(handle: TaskHandle[Any] | GroupHandle[Any]) -> bool:
    states = await handle.statuses() if isinstance(handle, GroupHandle) else [await handle.status()]
    return any(state in _UNFINISHED for state in states)
