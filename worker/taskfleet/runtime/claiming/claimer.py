"""The step call: it records outcomes of a partition and claims tasks from it."""

from __future__ import annotations

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.protocol.claim import StepReply
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import redis_errors
from taskfleet.runtime.claiming.isolation import Isolation
from taskfleet.runtime.claiming.outage import Outage
from taskfleet.runtime.claiming.receiver import Receiver
from taskfleet.runtime.claiming.step_calls import StepCalls
from taskfleet.runtime.claiming.unheard import UnheardClaims
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection
from taskfleet.runtime.state.tally import Tally

logger = showing.logger("taskfleet.worker")


class Claimer:
    """Makes the step calls of a worker."""

    def __init__(
        self,
        calls: StepCalls,
        context: RunContext,
        selection: Selection,
        held: Held,
        outbox: Outbox,
        prefetch: Prefetch,
        tally: Tally,
        receiver: Receiver,
        unheard: UnheardClaims,
        isolation: Isolation,
        outage: Outage,
    ) -> None:
        self._calls = calls
        self._context = context
        self._selection = selection
        self._held = held
        self._outbox = outbox
        self._prefetch = prefetch
        self._tally = tally
        self._receiver = receiver
        self._unheard = unheard
        self._isolation = isolation
        self._outage = outage

    async def call(self, partition: Partition, slots: int) -> None:
        """Record the outcomes of a partition, and claim up to `slots` tasks."""
        outcomes = self._outbox.take(partition)
        slots = 0 if partition in self._outbox.behind else self._unheard.most(partition, slots)
        began = self._context.now()
        try:
            if partition in self._unheard.unsure:
                await self._unheard.hand_back(partition)
            reply = await self._calls.step(partition, slots, outcomes)
        except Exception as error:
            await self._failed(partition, slots, outcomes, error)
            return
        except BaseException as error:
            # Cancelled, perhaps with the loop: the outcomes are sent again, and claimed tasks are found later.
            self._outbox.put_back(partition, outcomes)
            if slots:
                self._unheard.call_failed(partition, slots, error)
            raise
        self._prefetch.call_took(self._context.now() - began)
        self._succeeded(partition, slots, outcomes, reply)

    def _succeeded(self, partition: Partition, slots: int, outcomes: list[Outcome], reply: StepReply) -> None:
        resent = self._outage.failures > 0
        self._outage.ended()
        self._outbox.succeeded(partition)
        if slots:
            self._unheard.call_succeeded(partition)
        self._held.recorded(partition, outcomes)
        if reply.stale and not resent:
            # A resent outcome is stale if the first sending had arrived, which is harmless.
            self._tally.lost_acks += reply.stale
            if late := reply.stale - reply.unknown:
                logger.warning(
                    "queue %s: %d outcomes came too late: their leases had expired, and the tasks were taken from this "
                    "worker", partition, late,
                )  # fmt: skip
            if reply.unknown:
                logger.warning(
                    "queue %s: Redis knows nothing of the tasks of %d outcomes: it has lost its data, or they have "
                    "ended elsewhere; results that were not there are stored",
                    partition, reply.unknown,
                )  # fmt: skip
        self._receiver.take(partition, reply)
        if outcomes:
            self._prefetch.measure(self._context.now())

    async def _failed(self, partition: Partition, slots: int, outcomes: list[Outcome], error: Exception) -> None:
        closed = self._outbox.failed(outcomes, error)
        self._selection.unheard(partition)
        if slots:
            self._unheard.call_failed(partition, slots, error)
        if outcomes and not redis_errors.is_about_redis(error) and await self._isolation.answers(partition):
            # One of the outcomes makes the call fail: it must not prevent the recording of the others.
            await self._isolation.record(partition, outcomes, error)
            return
        if closed and await self._isolation.answers(partition) and self._outbox.refused(partition):
            outcomes = self._isolation.replaced(partition, outcomes[0], error)
        self._outbox.put_back(partition, outcomes)
        if not isinstance(error, (redis_exceptions.RedisError, OSError)):
            raise error
        await self._outage.failed(error)
