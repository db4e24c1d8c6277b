"""The dispatcher starts prefetched tasks as slots become free, and returns tasks that get no slot."""

from __future__ import annotations

import asyncio

from taskfleet.protocol.claim import CLAIM_PARTITION, Claim
from taskfleet.protocol.partitions import queue_of
from taskfleet.runtime.recording.outcomes import Outcomes
from taskfleet.runtime.running.batches import Batches
from taskfleet.runtime.running.execution import Execution
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots


class Dispatcher:
    """Gives free slots to claimed tasks."""

    def __init__(
        self,
        context: RunContext,
        slots: Slots,
        held: Held,
        health: Health,
        prefetch: Prefetch,
        batches: Batches,
        execution: Execution,
        outcomes: Outcomes,
        wanted: asyncio.Event,
    ) -> None:
        self._context = context
        self._slots = slots
        self._held = held
        self._health = health
        self._prefetch = prefetch
        self._batches = batches
        self._execution = execution
        self._outcomes = outcomes
        self._wanted = wanted
        self._due = False  # whether `start_soon` has been called in this round of the loop

    def start_soon(self) -> None:
        """Start tasks in the next round of the loop, for all slots together that become free in this one."""
        if self._due or self._prefetch.starting:
            return
        self._due = True
        # The caller is in the context of a task that has ended; the next tasks must not be.
        self._context.loop.call_soon(self._start_due, context=self._context.copy())

    def _start_due(self) -> None:
        self._due = False
        self.start()

    def start(self) -> None:
        """Start as many claimed tasks and closed batches as there are free slots."""
        prefetch, slots, health = self._prefetch, self._slots, self._health
        if prefetch.starting:
            return  # a task that ends while it is being started frees its slot for the loop below
        prefetch.starting = True
        try:
            if self._batches.widened and not health.claims_nothing:
                self._gather()
            if slots.waiting:
                self._batches.start_waiting()
            running, held, start = slots.running, self._held, self._execution.start
            while prefetch.claims and len(running) < slots.usable and not health.claims_nothing:
                partition, task_id, blob, attempt, delivery, inputs, ready_ms = prefetch.claims.popleft()
                if held.get(task_id) == (partition, delivery):
                    health.idle_since_ms = 0
                    start(partition, task_id, blob, attempt, delivery, inputs, ready_ms)
        finally:
            prefetch.starting = False

    def _gather(self) -> None:
        """Go through all claims once: batch items gather, with or without a free slot."""
        prefetch, batches = self._prefetch, self._batches
        claims = list(prefetch.claims)
        widened, batches.widened = batches.widened, set()
        prefetch.claims.clear()
        if claims:
            self._health.idle_since_ms = 0
        kept: list[Claim] = []
        counts = {queue: [0, 0] for queue in widened}
        for claim in claims:
            if not self._held.has(claim):
                continue
            before = batches.added
            if not self._execution.start(*claim, only_gather=self._slots.free <= 0):
                kept.append(claim)
            count = counts.get(queue_of(claim[CLAIM_PARTITION]))
            if count is not None:
                count[0] += batches.added - before
                count[1] += 1
        for queue, (items, total) in counts.items():
            if total:
                batches.learn(queue, items, total)
        size = prefetch.size
        prefetch.claims.extend(kept[:size])
        self._return(kept[size:])

    def hand_back(self) -> None:
        """Return every task that is not running to its queue."""
        self._return_prefetched()
        self._batches.hand_back()

    def give_up_prefetched(self) -> None:
        """Return the tasks that were claimed ahead, since other workers may have slots for them."""
        self._prefetch.forget_rate()
        self._return_prefetched()
        self._wanted.set()

    def _return_prefetched(self) -> None:
        claims = list(self._prefetch.claims)
        self._prefetch.claims.clear()
        self._return(claims)

    def _return(self, claims: list[Claim]) -> None:
        # Last first, so that the head of the queue has its former order.
        for partition, task_id, _, _, delivery, _, _ in reversed(claims):
            self._outcomes.hand_back(partition, task_id, delivery)
