"""A handle on one task: its status, its result, its cancellation."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from taskfleet import outcome
from taskfleet.errors import TaskCancelledError, TaskExecutionError, TaskNotFoundError, TaskTimeoutError
from taskfleet.outcome import DeadLetter
from taskfleet.signature import Value

if TYPE_CHECKING:
    from taskfleet.engine.broker import RedisBroker
    from taskfleet.results import Announcements

R = TypeVar("R")

Status = Literal[
    "delayed", "blocked", "ready", "running", "retrying", "succeeded", "failed", "dead", "cancelled", "expired",
    "unknown",
]  # fmt: skip

_ANY = Value(Any, "result")
CANCELLED_TTL_MS = 3_600_000
# Redis' pub/sub promises nothing: once in a while the waiter looks itself.
_RECHECK_SECONDS = 5.0


class TaskHandle(Generic[R]):
    """One enqueued task.

    `queue` is `None` for a handle made from a bare id: it is looked for in every queue.
    """

    __slots__ = ("_announcements", "_broker", "_value", "id", "queue")

    def __init__(
        self,
        broker: RedisBroker,
        announcements: Announcements,
        task_id: str,
        queue: str | None,
        value: Value = _ANY,
    ) -> None:
        self._broker = broker
        self._announcements = announcements
        self._value = value
        self.id = task_id
        self.queue = queue

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r}, queue={self.queue!r})"

    async def status(self) -> Status:
        """Where the task is now; `unknown` for one that never was, or whose result has expired."""
        state, data = await self._look()
        if state == "dead":
            return cast("Status", DeadLetter.of_packed(self.id, data).state)
        if state == "ended":
            return cast("Status", outcome.unpack_end(data)[0])
        return cast("Status", state)

    async def result(self, timeout: float | None = None) -> R:
        """Wait for the task's end and return its result.

        `timeout` in seconds; `None` waits for ever. Errors: `TaskTimeoutError` when it did not end in time,
        `TaskExecutionError` when it failed or is dead, `TaskCancelledError`, `TaskNotFoundError`.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._wait()
        except TimeoutError:
            raise TaskTimeoutError(
                f"task {self.id} has no result after {timeout:g} s", task_id=self.id, timeout_seconds=timeout or 0.0
            ) from None

    async def cancel(self) -> bool:
        """Cancel the task; returns whether that changed anything. One that runs is interrupted by its worker."""
        await self._look()
        if self.queue is None:
            return False
        record = outcome.pack_end(outcome.CANCELLED, "cancelled before it ran")
        return await self._broker.cancel(self.queue, self.id, record, CANCELLED_TTL_MS)

    async def _wait(self) -> R:
        state, data = await self._look()
        if state not in ("ended", "dead"):
            if state == "unknown":
                raise TaskNotFoundError(f"task {self.id} is not known: it never was, or its result has expired")
            assert self.queue is not None
            async with self._announcements.expect(self._broker.keys_of(self.queue).done_channel, self.id) as ended:
                while True:
                    # Before asking: the end may be announced while the answer is on its way.
                    ended.clear()
                    state, data = await self._broker.status(self.queue, self.id, announce=True)
                    if state in ("ended", "dead"):
                        break
                    if state == "unknown":
                        raise TaskNotFoundError(f"task {self.id} ended without a result to keep (result_ttl=0)")
                    try:
                        await asyncio.wait_for(ended.wait(), _RECHECK_SECONDS)
                    except TimeoutError:
                        continue
        return self._outcome(state, data)

    def _outcome(self, state: str, data: bytes) -> R:
        if state == "dead":
            letter = DeadLetter.of_packed(self.id, data)
            message = f"task {letter.task!r} ({self.id}) {letter.state}: {letter.error}"
            if letter.state == outcome.CANCELLED:
                raise TaskCancelledError(f"task {self.id} was cancelled", task_id=self.id)
            if letter.reason == "timeout":
                raise TaskTimeoutError(message, task_id=self.id, traceback=letter.traceback)
            raise TaskExecutionError(message, task_id=self.id, traceback=letter.traceback)
        end, value = outcome.unpack_end(data)
        if end == outcome.SUCCEEDED:
            return cast("R", self._value.load(value))
        if end == outcome.CANCELLED:
            raise TaskCancelledError(f"task {self.id} was cancelled: {value}", task_id=self.id)
        raise TaskExecutionError(f"task {self.id} {end}: {value}", task_id=self.id)

    async def _look(self) -> tuple[str, bytes]:
        if self.queue is not None:
            return await self._broker.status(self.queue, self.id)
        for queue in await self._broker.queues():
            state, data = await self._broker.status(queue, self.id)
            if state != "unknown":
                self.queue = queue
                return state, data
        return "unknown", b""
