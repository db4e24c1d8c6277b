"""The calls of one worker on a partition: with the options of its queue, and as the owner of its leases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from taskfleet.application import Application
from taskfleet.protocol.claim import HeldTask, StepReply
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.run_context import RunContext


class StepCalls:
    """Step calls, with or without a wait before them, and the question which tasks the worker owns.

    Errors of Redis pass through.
    """

    def __init__(self, application: Application, context: RunContext, identity: Identity) -> None:
        self._options_of = application.options_of
        self._context = context
        self._incarnation = identity.incarnation

    def step(self, partition: Partition, slots: int, outcomes: Sequence[Outcome]) -> Awaitable[StepReply]:
        """Record outcomes, and claim up to `slots` tasks."""
        return self._context.broker.step(partition, self._options_of(partition), self._incarnation, slots, outcomes)

    def step_when_called(
        self, partition: Partition, slots: int, timeout: float, take: Callable[[StepReply], None]
    ) -> Awaitable[None]:
        """Wait at most `timeout` s until the partition calls for a worker, and claim up to `slots` tasks at once.

        `take` gets the reply as soon as it is there.
        """
        options = self._options_of(partition)
        return self._context.broker.step_when_called(partition, options, self._incarnation, slots, timeout, take)

    def owned(self, partition: Partition) -> Awaitable[list[HeldTask]]:
        """Every task that the worker has claimed there, even if the reply to its claim was lost."""
        return self._context.broker.owned(partition, self._incarnation)
