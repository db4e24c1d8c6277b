"""Outcomes of tasks that a worker has claimed and cannot run."""

from __future__ import annotations

from taskfleet.protocol.envelope import Envelope
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.recording.hook_calls import HookCalls
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.recording.rejections import Refusal, Rejections
from taskfleet.runtime.recording.reporting import Reports


class Unstarted:
    """Makes such tasks dead letters, or returns them to their queue for a newer worker."""

    def __init__(self, outcomes: Outcomes, rejections: Rejections, reports: Reports, hook_calls: HookCalls) -> None:
        self._outcomes = outcomes
        self._rejections = rejections
        self._reports = reports
        self._hook_calls = hook_calls

    def refuse(
        self,
        partition: Partition,
        task_id: str,
        delivery: int,
        refusal: Refusal,
        attempt: int,
        task: Envelope | None = None,
    ) -> None:
        """Record the refusal of a task's payload."""
        if refusal.delay_ms:
            self._outcomes.return_later(partition, task_id, delivery, refusal.delay_ms)
        else:
            self.bury(partition, task_id, delivery, refusal.reason, refusal.message, attempt, task)

    def bury(
        self,
        partition: Partition,
        task_id: str,
        delivery: int,
        reason: str,
        message: str,
        attempt: int,
        task: Envelope | None = None,
    ) -> None:
        """Make a task that cannot be run a dead letter; without `task`, its payload could not be read."""
        self._reports.buried(partition, task_id, task.name if task else "?", attempt, reason, message)
        self._outcomes.bury(partition, task_id, delivery, reason, message)
        self._hook_calls.buried(partition, task_id, delivery, attempt, task, reason, message)

    def bury_unread(self, partition: Partition, task_id: str, delivery: int) -> None:
        """Make a task a dead letter whose claim is too large to be read."""
        refusal = self._rejections.claim_too_large(partition)
        self.bury(partition, task_id, delivery, refusal.reason, refusal.message, 1)
