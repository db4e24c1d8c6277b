"""Cordon and drain: how a worker stops claiming tasks, and how it ends."""

from __future__ import annotations

import asyncio

from taskfleet import showing
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.selection import Selection
from taskfleet.runtime.state.slots import Slots

logger = showing.logger("taskfleet.worker")


class Drain:
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
        """Claim no more tasks, return tasks that have not started, give running tasks the grace period, then end."""
        if not self._in_grace:
            self._in_grace = True
            asyncio.get_running_loop().call_later(self._grace_period, self.end_grace)
        self.retire()

    def retire(self) -> None:
        """Drain without a limit on the running tasks. `drain()` can still set a limit."""
        if not self._health.draining:
            self._health.draining = True
            logger.info("draining: %d running, %d prefetched", len(self._slots.running), len(self._prefetch.claims))
            self._health.news.set()  # sends a heartbeat now, so that the fleet knows at once
        self._wanted.set()

    def leave(self, why: str) -> None:
        """Report the worker unhealthy, and drain, so that its supervisor starts another worker."""
        self._health.unhealthy = self._health.unhealthy or why
        logger.error("worker %s is unhealthy and leaves: %s", self._identity.worker_id, why)
        self.drain()

    def end_grace(self) -> None:
        """Stop all running tasks at the end of the grace period."""
        for job in list(self._slots.running.values()):
            self._stopping.stop(job, "shutdown")

    def set_cordoned(self, cordoned: bool) -> None:
        """Stop claiming tasks, or start again; the worker continues in both cases.

        It claims nothing before its first heartbeat is answered: a cordon that is older than the worker holds, too.
        """
        health = self._health
        if cordoned != health.cordoned or not health.connected:
            if cordoned != health.cordoned:
                logger.info("cordoned" if cordoned else "no longer cordoned")
            if not health.connected:
                health.news.set()
            health.cordoned, health.connected = cordoned, True
            self._selection.all_hot()
            self._wanted.set()
