"""Cordon and drain: how a worker takes no more work, and how it leaves."""

from __future__ import annotations

import asyncio

from taskfleet import showing
from taskfleet.runtime.health import Health
from taskfleet.runtime.identity import Identity
from taskfleet.runtime.prefetch import Prefetch
from taskfleet.runtime.selection import Selection
from taskfleet.runtime.slots import Slots
from taskfleet.runtime.stopping import Stopping

logger = showing.logger("taskfleet.worker")


class Draining:
    """Changes `cordoned`, `draining` and `unhealthy` of the worker's health; its loop then acts on them."""

    def __init__(
        self,
        identity: Identity,
        health: Health,
        slots: Slots,
        prefetch: Prefetch,
        selection: Selection,
        stopping: Stopping,
        wanted: asyncio.Event,
        grace_period: float,
    ) -> None:
        self._identity = identity
        self._health = health
        self._slots = slots
        self._prefetch = prefetch
        self._selection = selection
        self._stopping = stopping
        self._wanted = wanted
        self._grace_period = grace_period
        self._in_grace = False

    def drain(self) -> None:
        """Claim nothing more, hand back tasks that have not started, give running ones the grace period, then end."""
        if not self._in_grace:
            self._in_grace = True
            asyncio.get_running_loop().call_later(self._grace_period, self.end_grace)
        self.retire()

    def retire(self) -> None:
        """Drain, but let running tasks take as long as they want. `drain()` can still set a limit."""
        if not self._health.draining:
            self._health.draining = True
            logger.info("draining: %d running, %d prefetched", len(self._slots.running), len(self._prefetch.claims))
            self._health.news.set()  # the fleet learns of it now, not with the next heartbeat
        self._wanted.set()

    def leave(self, why: str) -> None:
        """Report the worker unhealthy, and drain: the supervisor that started it is to start another."""
        self._health.unhealthy = self._health.unhealthy or why
        logger.error("worker %s is unhealthy and leaves: %s", self._identity.worker_id, why)
        self.drain()

    def end_grace(self) -> None:
        """The grace period is over: stop all that runs."""
        for job in list(self._slots.running.values()):
            self._stopping.stop(job, "shutdown")

    def set_cordoned(self, cordoned: bool) -> None:
        """Take no more work, or take it again; the worker stays in either case."""
        if cordoned != self._health.cordoned:
            logger.info("cordoned" if cordoned else "no longer cordoned")
            self._health.cordoned = cordoned
            self._selection.all_hot()
            self._wanted.set()
