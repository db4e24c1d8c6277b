"""Outcomes that Redis, or the client, does not take: none keeps the others of its call from being recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskfleet import describing, showing
from taskfleet.protocol import bounds
from taskfleet.protocol.outcome import Outcome
from taskfleet.redis import redis_errors

if TYPE_CHECKING:
    from taskfleet.runtime.worker import Worker

logger = showing.logger("taskfleet.worker")


class Isolation:
    """Finds the outcome that a call fails with, and records a failure in its place."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._replaced: set[str] = set()  # ids of the outcomes in whose place a failure is under way

    async def answers(self, name: str) -> bool:
        """Whether a call that records and claims nothing succeeds: then a failure is for what was sent."""
        worker = self._worker
        try:
            await worker.queue.broker.step(name, worker.queue.options_of(name), worker.incarnation, 0, [])
        except Exception:
            return False
        return True

    async def record(self, name: str, outcomes: list[Outcome], error: Exception) -> None:
        """Half by half, until the outcome that a call fails with stands alone: it becomes a failure that says so."""
        if len(outcomes) == 1:
            outcomes = self.replaced(name, outcomes[0], error)
        worker = self._worker
        middle = (len(outcomes) + 1) // 2
        for start, end in ((0, middle), (middle, len(outcomes))):
            some = outcomes[start:end]
            if not some:
                continue
            try:
                reply = await worker.queue.broker.step(name, worker.queue.options_of(name), worker.incarnation, 0, some)
            except Exception as problem:
                if redis_errors.is_about_redis(problem):
                    worker._outbox.put_back(name, outcomes[start:])
                    await worker._failed(problem)
                    return
                await self.record(name, some, problem)
            else:
                self._replaced.difference_update(ended[0] for ended in some)
                worker.recorded(name, some)
                worker.take(name, reply)

    def replaced(self, name: str, ended: Outcome, error: Exception) -> list[Outcome]:
        """A failure in place of an outcome that cannot be recorded; nothing, when it stands for another already."""
        task_id, delivery, code = ended[:3]
        kind, reason = "internal", f"its outcome ({code}) could not be recorded: {describing.describe(error)}"
        if redis_errors.is_too_large(error) or redis_errors.is_connection_lost(error):
            size = bounds.outcome_bytes(ended)
            kind, reason = (
                "result_too_large",
                (
                    f"its outcome has {size} bytes, more than Redis takes (proto-max-bulk-len, "
                    "client-query-buffer-limit); store the result elsewhere and return its address"
                ),
            )
        logger.error("task %s of queue %s: %s", task_id, name, reason)
        if task_id in self._replaced:
            # Not even that can be recorded: its lease runs out, and its deliveries are counted.
            self._replaced.discard(task_id)
            self._worker.held.pop(task_id, None)
            return []
        self._replaced.add(task_id)
        return [self._worker.execution.failed_outcome(name, task_id, delivery, kind, reason)]
