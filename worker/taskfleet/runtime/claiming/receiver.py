"""The receiver turns the reply to a step call into the claims that a worker holds."""

from __future__ import annotations

from taskfleet import showing
from taskfleet.protocol.claim import StepReply
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis.urls import address
from taskfleet.runtime.claiming.relays import Relays
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.recording.reporting import Reports
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection
from taskfleet.runtime.state.tally import Tally

logger = showing.logger("taskfleet.worker")

_NAMESAKE_DELAY_MS = 200


class Receiver:
    """Receives replies."""

    def __init__(
        self,
        context: RunContext,
        health: Health,
        selection: Selection,
        held: Held,
        prefetch: Prefetch,
        outcomes: Outcomes,
        reports: Reports,
        relays: Relays,
        tally: Tally,
    ) -> None:
        self._context = context
        self._health = health
        self._selection = selection
        self._held = held
        self._prefetch = prefetch
        self._outcomes = outcomes
        self._reports = reports
        self._relays = relays
        self._tally = tally
        for partition in selection.names:
            tally.taken_over[partition] += 0  # so that the metric is there before the first, which is an increase

    def take(self, partition: Partition, reply: StepReply) -> None:
        """Hold the leases of the claims in a reply, and take note of its other contents."""
        if reply.memory_full is not self._health.memory_full:
            self._set_memory_full(reply.memory_full)
        for gone in reply.taken_over:
            self._tally.taken_over[partition] += 1
            report = self._reports.died if gone.dead else self._reports.taken_over
            report(queue_of(partition), gone.id, gone.name, gone.attempt, gone.crashes)
        horizon = reply.horizon_ms / 1000 if reply.horizon_ms >= 0 else None
        now = self._context.now()
        self._selection.seen(partition, reply.left, horizon, now)
        claims = reply.claims
        if claims:
            self._tally.ahead[partition] = self._context.redis_seconds(partition) - now
            if namesakes := self._held.add(partition, claims):
                for _, task_id, _, _, delivery, _, _ in namesakes:
                    self._outcomes.hand_back(partition, task_id, delivery, _NAMESAKE_DELAY_MS)
                claims = [claim for claim in claims if claim not in namesakes]
            if claims:
                self._prefetch.add(claims)
        if reply.signals:
            self._relays.start(partition)

    def _set_memory_full(self, full: bool) -> None:
        if full:
            logger.warning(
                "Redis at %s is out of memory: outcomes are recorded, nothing is claimed; raise maxmemory, or purge",
                address(self._context.broker.url),
            )
        else:
            logger.info("Redis has memory again")
        self._health.memory_full = full
