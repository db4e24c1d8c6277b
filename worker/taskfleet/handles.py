"""Handles on tasks and groups: status, result, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, SupportsIndex, TypeVar, cast

from taskfleet import checks, context, sync, type_variables
from taskfleet.cancellation import end
from taskfleet.completions import Completions, EndEvent
from taskfleet.errors import (
    ResultTimeoutError,
    RunTimeoutError,
    SerializationError,
    TaskCancelledError,
    TaskExecutionError,
    TaskNotFoundError,
)
from taskfleet.inspection.source import Source
from taskfleet.protocol import result_record
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.status import Status
from taskfleet.travel.value import Value

if TYPE_CHECKING:
    from taskfleet.inspection.task_info import TaskInfo
    from taskfleet.protocol.dead_letter import DeadLetter
    from taskfleet.protocol.progress import Progress

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")
# `GroupHandle` alone is that of a group with any results.
Results_co = type_variables.TypeVar("Results_co", bound=tuple[Any, ...], covariant=True, default=tuple[Any, ...])

_ANY = Value(Any, "result")
# Redis does not guarantee the delivery of a completion, so a waiting caller also checks from time to time.
_RECHECK_SECONDS = 5.0


class Connections(Source, Protocol):
    """The port of a handle, used anew at each call: a handle may move from one event loop to another."""

    @property
    def completions(self) -> Completions:
        """The completions that the running loop waits for."""
        ...


class TaskHandle(Generic[R_co]):
    """One enqueued task.

    `queue` is `None` for a handle made from a bare id, until it has been found.
    """

    __slots__ = ("_connections", "_value", "id", "partition")

    def __init__(
        self, connections: Connections, task_id: str, partition: Partition | None, value: Value = _ANY
    ) -> None:
        self._connections = connections
        self._value = value
        self.id = task_id
        self.partition = partition

    @property
    def queue(self) -> str | None:
        return queue_of(self.partition) if self.partition is not None else None

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r}, queue={self.queue!r})"

    def __copy__(self) -> TaskHandle[R_co]:
        return TaskHandle(self._connections, self.id, self.partition, self._value)

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> Never:
        raise TypeError(
            f"a handle cannot be pickled, since it uses the connections of this process: send its id, {self.id!r}, and "
            "make a handle of it there with queue.handle(id)"
        )

    async def status(self) -> Status:
        """The state of the task; `unknown` for an id that never existed, or whose result has expired."""
        state, data = await self._look()
        if state == "dead":
            return cast("Status", self._letter(data).state)
        if state == "ended":
            return cast("Status", self._end(data)[0])
        return cast("Status", state)

    async def result(self, timeout: float | timedelta | None = None) -> R_co:
        """Wait for the task's end and return its result.

        `timeout` in seconds, or a timedelta; `None` waits without limit. Errors: `ResultTimeoutError` when it did not
        end in time, `TaskExecutionError` when it failed or is dead (`RunTimeoutError` when it ran too long),
        `TaskCancelledError`, `TaskNotFoundError`, and `SerializationError` (`BadSignatureError`, `NewerVersionError`)
        when the stored record is not readable.
        """
        if timeout is not None:
            timeout = checks.seconds("timeout", timeout)
        try:
            async with asyncio.timeout(timeout):
                return await self._wait()
        except RunTimeoutError:
            raise
        except TimeoutError:
            raise ResultTimeoutError(
                f"task {self.id} has no result after {timeout:g} s", task_id=self.id, timeout_seconds=timeout or 0.0
            ) from None

    async def cancel(self) -> bool:
        """Cancel the task; returns whether that changed its state. A running task is interrupted by its worker."""
        if self.partition is None:
            await self._find(ended=False)
        if self.partition is None:
            return False
        record = result_record.pack_cancelled("cancelled before it ran")
        record = self._connections.seal.close("result", queue_of(self.partition), self.id, record)
        return await self._connections.broker.cancel(
            self.partition, self.id, record, result_record.CANCELLED_TTL_MS, "cancelled before it ran"
        )

    async def progress(self) -> Progress | None:
        """The last report of the task (`current_task().progress`); `None` before the first, and after the end.

        A task that is run again keeps the report of its last attempt until it makes another.
        """
        partition = await self.locate()
        record = await self._connections.broker.progress(partition, self.id) if partition is not None else None
        if record is None:
            return None
        from taskfleet.protocol.progress import Progress

        return Progress.of_record(record)

    async def info(self) -> TaskInfo:
        """Everything that the queue knows of the task: its life so far, its errors, and what it waits for.

        Errors: `TaskNotFoundError` for an id that never existed, or of which nothing is kept any more. What cannot be
        read, for lack of a key or because it is too large, is `None`, and `problem` says why.
        """
        # Imported only here: a worker has no use for it.
        from taskfleet.inspection.reading import Reader

        partition = await self.locate()
        found = await Reader(self._connections).one(partition, self.id) if partition is not None else None
        if found is None:
            raise TaskNotFoundError(
                f"task {self.id} is not known: it never was here, was purged, or its result has expired"
            )
        return found

    # The same calls for code without an event loop, in any thread.

    def info_sync(self) -> TaskInfo:
        """`info` for code without an event loop."""
        return self._sync(lambda handle: handle.info(), "await handle.info()")

    def status_sync(self) -> Status:
        """`status` for code without an event loop."""
        return self._sync(lambda handle: handle.status(), "await handle.status()")

    def result_sync(self, timeout: float | timedelta | None = None) -> R_co:
        """`result` for code without an event loop: `timeout` in seconds, the same errors."""
        return self._sync(lambda handle: handle.result(timeout), "await handle.result()")

    def cancel_sync(self) -> bool:
        """`cancel` for code without an event loop."""
        return self._sync(lambda handle: handle.cancel(), "await handle.cancel()")

    def progress_sync(self) -> Progress | None:
        """`progress` for code without an event loop."""
        return self._sync(lambda handle: handle.progress(), "await handle.progress()")

    def _sync(self, call: Callable[[TaskHandle[R_co]], Coroutine[Any, Any, T]], instead: str) -> T:
        return sync.run(functools.partial(call, self), instead=instead)

    async def _wait(self) -> R_co:
        completions = self._connections.completions
        # A subscription costs more than a look, and one that is there saves the look.
        if self.partition is None or not completions.is_subscribed(self.partition):
            state, data = await self._look()
            if state in ("ended", "dead"):
                return self._outcome(state, data)
            if state == "unknown":
                raise self._not_known()
        assert self.partition is not None
        async with completions.expect(self.partition, self.id) as ended:
            return await self._ended(self.partition, ended)

    def _not_known(self) -> TaskNotFoundError:
        return TaskNotFoundError(
            f"task {self.id} is not known: it never was here, was purged, or its result has expired"
        )

    async def _ended(self, partition: Partition, ended: EndEvent) -> R_co:
        """The result of the task, once its end is announced, or found by looking from time to time."""
        waiter = context.CURRENT.get()  # the task that waits for this one, if a worker runs the caller
        waits = context.WAITS.get() if waiter is not None else None
        if waits is not None:
            waits.check(waiter, self.id)
        looks = 0
        try:
            while True:
                # Cleared before the call: the completion may be announced while the reply is on its way.
                ended.clear()
                state, data = await self._connections.broker.status(partition, self.id, announce=True)
                if state in ("ended", "dead"):
                    return self._outcome(state, data)
                if state == "unknown":
                    if not looks:
                        raise self._not_known()
                    raise TaskNotFoundError(
                        f"task {self.id} is gone: it ended without a result to keep (result_ttl=0), or was purged"
                    )
                looks += 1
                if waits is not None and looks > 1:
                    waits.note(waiter, self.id, state)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RECHECK_SECONDS):
                        await ended.wait()
                if ended.record is not None:
                    # What is published may be of another program; then what is stored counts.
                    with contextlib.suppress(SerializationError):
                        return self._outcome("ended", ended.record)
                    ended.record = None
        finally:
            if waits is not None and looks > 1:
                waits.forget(waiter, self.id)

    def _outcome(self, state: str, data: bytes) -> R_co:
        if state == "dead":
            letter = self._letter(data)
            if letter.state == result_record.CANCELLED:
                raise TaskCancelledError(f"task {self.id} was cancelled", task_id=self.id)
            raise failure(letter)
        end, value = self._end(data)
        if end == result_record.SUCCEEDED:
            try:
                return cast("R_co", self._value.load(value))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise SerializationError(f"task {self.id}: its stored result cannot be read: {error!s:.200}") from None
        if end == result_record.CANCELLED:
            raise TaskCancelledError(f"task {self.id} was cancelled: {value}", task_id=self.id)
        raise TaskExecutionError(f"task {self.id} {end}: {value}", task_id=self.id)

    def _letter(self, data: bytes) -> DeadLetter:
        from taskfleet.protocol.dead_letter import DeadLetter

        return DeadLetter.of_packed(self.id, data, queue=self.queue or "", seal=self._connections.seal)

    def _end(self, data: bytes) -> tuple[str, Any]:
        return result_record.unpack_end(data, queue=self.queue or "", task_id=self.id, seal=self._connections.seal)

    async def _look(self) -> tuple[str, bytes]:
        if self.partition is not None:
            return await self._connections.broker.status(self.partition, self.id)
        return await self._find(ended=True)

    async def _find(self, *, ended: bool) -> tuple[str, bytes]:
        """Look for a bare id in all partitions. With `ended`, a finished task of that id comes first."""
        found = ("unknown", b"")
        for partition in map(Partition, await self._connections.broker.partitions()):
            state, data = await self._connections.broker.status(partition, self.id)
            if state == "unknown":
                continue
            if self.partition is None:
                self.partition, found = partition, (state, data)
            if (state in ("ended", "dead")) == ended:
                self.partition = partition
                return state, data
        return found

    async def locate(self) -> Partition | None:
        """The partition of the task, also after its end; `None` when no partition knows it."""
        if self.partition is None:
            await self._look()
        return self.partition


class HandleFactory(Protocol):
    """Makes the handle of a task. Its partition and the type of its result may be unknown."""

    def __call__(self, task_id: str, partition: Partition | None, value: Value = ..., /) -> TaskHandle[Any]: ...


class GroupResults(tuple[Any, ...]):
    """The results of a group: a tuple, so that each has its own type. It equals the list of the same results, too.

    Results were a list before, and programs compare them with one.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


def failure(letter: DeadLetter) -> TaskExecutionError:
    """The error for who waits for the result of a task that has failed, or is dead."""
    message = f"task {letter.task!r} ({letter.id}) {letter.state}: {letter.error}"
    if letter.reason == "timeout":
        from taskfleet.protocol.dead_letter import timeout_in

        seconds = timeout_in(letter.error)
        return RunTimeoutError(message, task_id=letter.id, timeout_seconds=seconds, traceback=letter.traceback)
    return TaskExecutionError(message, task_id=letter.id, traceback=letter.traceback)


class GroupHandle(Generic[Results_co]):
    """A group of several tasks, whose results come as a tuple."""

    def __init__(self, handles: Sequence[TaskHandle[Any]], shape: Any) -> None:
        self.handles = tuple(handles)
        self._shape = shape

    def __repr__(self) -> str:
        return f"GroupHandle({[handle.id for handle in self.handles]})"

    async def result(self, timeout: float | timedelta | None = None) -> Results_co:
        """The results of the members as a tuple, in order, nested as the groups were. The first failure is raised.

        `timeout` in seconds for all members together. Errors: as for `TaskHandle.result`.
        """
        results = iter(await _gather([handle.result(timeout) for handle in self.handles]))
        return cast("Results_co", _nested(self._shape, results))

    async def statuses(self) -> list[Status]:
        """The state of each member."""
        return [await handle.status() for handle in self.handles]

    async def cancel(self) -> bool:
        """Cancel all members; returns whether that changed the state of any."""
        return any([await handle.cancel() for handle in self.handles])

    # The same calls for code without an event loop, in any thread.

    def result_sync(self, timeout: float | timedelta | None = None) -> Results_co:
        """`result` for code without an event loop: `timeout` in seconds, the same errors."""
        return self._sync(lambda group: group.result(timeout), "await handle.result()")

    def statuses_sync(self) -> list[Status]:
        """`statuses` for code without an event loop."""
        return self._sync(lambda group: group.statuses(), "await handle.statuses()")

    def cancel_sync(self) -> bool:
        """`cancel` for code without an event loop."""
        return self._sync(lambda group: group.cancel(), "await handle.cancel()")

    def _sync(self, call: Callable[[GroupHandle[Results_co]], Coroutine[Any, Any, T]], instead: str) -> T:
        return sync.run(functools.partial(call, self), instead=instead)


async def _gather(waiting: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """All results, or the first error; after an error the other calls are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in waiting]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end(tasks)


def _nested(shape: Any, values: Iterator[Any]) -> Any:
    return GroupResults([_nested(each, values) for each in shape]) if isinstance(shape, list) else next(values)
