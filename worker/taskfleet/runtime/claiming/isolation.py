"""Isolation of an outcome that Redis or its client refuses, so that the others of its call are recorded."""

from __future__ import annotations

from taskfleet import describing, showing
from taskfleet.protocol import bounds
from taskfleet.protocol.outcome import OUTCOME_CODE, OUTCOME_DELIVERY, OUTCOME_ID, Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import redis_errors
from taskfleet.runtime.claiming.outage import Outage
from taskfleet.runtime.claiming.receiver import Receiver
from taskfleet.runtime.claiming.step_calls import StepCalls
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.state.held import Held

logger = showing.logger("taskfleet.worker")


class Isolation:
    """Finds the outcome that makes a call fail, and records a failure instead of it."""

    def __init__(
        self,
        calls: StepCalls,
        held: Held,
        outbox: Outbox,
        outcomes: Outcomes,
        receiver: Receiver,
        outage: Outage,
    ) -> None:
        self._calls = calls
        self._held = held
        self._outbox = outbox
        self._outcomes = outcomes
        self._receiver = receiver
        self._outage = outage
        self._replaced: set[str] = set()  # ids of the outcomes that are being replaced by a failure

    async def _record(self, partition: Partition, outcomes: list[Outcome]) -> None:
        reply = await self._calls.step(partition, 0, outcomes)
        if outcomes:
            self._replaced.difference_update(outcome[OUTCOME_ID] for outcome in outcomes)
            self._held.recorded(partition, outcomes)
            self._receiver.take(partition, reply)

    async def answers(self, partition: Partition) -> bool:
        """Whether a call without outcomes and claims succeeds: then an outcome made the last call fail."""
        try:
            await self._record(partition, [])
        except Exception:
            return False
        return True

    async def record(self, partition: Partition, outcomes: list[Outcome], error: Exception) -> None:
        """Split the outcomes in halves until the failing outcome is alone. A failure with the reason replaces it."""
        if len(outcomes) == 1:
            outcomes = self.replaced(partition, outcomes[0], error)
        middle = (len(outcomes) + 1) // 2
        for start, end in ((0, middle), (middle, len(outcomes))):
            some = outcomes[start:end]
            if not some:
                continue
            try:
                await self._record(partition, some)
            except Exception as problem:
                if redis_errors.is_about_redis(problem):
                    self._outbox.put_back(partition, outcomes[start:])
                    await self._outage.failed(problem)
                    return
                await self.record(partition, some, problem)

    def replaced(self, partition: Partition, ended: Outcome, error: Exception) -> list[Outcome]:
        """A failure that replaces an unrecordable outcome; empty if the outcome is such a replacement itself."""
        task_id, delivery, code = ended[OUTCOME_ID], ended[OUTCOME_DELIVERY], ended[OUTCOME_CODE]
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
        logger.error("task %s of queue %s: %s", task_id, partition, reason)
        if task_id in self._replaced:
            # The replacement cannot be recorded either: its lease expires, and its deliveries are counted.
            self._replaced.discard(task_id)
            self._held.pop(task_id, None)
            return []
        self._replaced.add(task_id)
        return [self._outcomes.failed(partition, task_id, delivery, kind, reason)]
