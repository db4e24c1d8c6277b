"""The heartbeat of a worker: the fields that it reports to the fleet."""

from __future__ import annotations

import os
import socket
import time

from taskfleet import foreign
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.introductions import Run, runs_text
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection
from taskfleet.runtime.state.slots import Slots
from taskfleet.version import __version__

_LONG_SECONDS = 0.5  # of shorter runs the start is not worth a heartbeat


class Heartbeat:
    """Reads the parts of a worker, on the lease thread."""

    def __init__(
        self,
        context: RunContext,
        identity: Identity,
        health: Health,
        slots: Slots,
        held: Held,
        selection: Selection,
        stopping: Stopping,
    ) -> None:
        self._context = context
        self._identity = identity
        self._health = health
        self._slots = slots
        self._held = held
        self._selection = selection
        self._stopping = stopping

    def fields(self) -> HeartbeatFields:
        health = self._health
        return HeartbeatFields(
            name=self._identity.name,
            pid=os.getpid(),
            slots=self._slots.total,
            busy=len(self._slots.running),
            stuck=len(self._stopping),
            queues=",".join(self._selection.queues),
            state=health.state(holds_leases=bool(self._held)),
            started_ms=health.started_ms,
            idle_since_ms=0 if self._held else health.idle_since_ms,
            version=__version__,
            oldest_run_ms=self._oldest_run_ms(),
            incarnation=self._identity.incarnation,
            runs=self._runs(),
            sealed_only=int(self._context.started and self._context.broker.seal.requires),
            host=socket.gethostname()[: foreign.NAME_LIMIT],
            clock_ms=int(time.time() * 1000),
        )

    def _runs(self) -> str:
        now, now_ms = self._context.now(), time.time() * 1000
        jobs = [*self._slots.running.copy().values(), *(job for _, job in self._slots.items.copy().values())]
        started = [(job.id, now - job.started) for job in jobs]
        return runs_text(Run(task_id, int(now_ms - 1000 * ago)) for task_id, ago in started if ago > _LONG_SECONDS)

    def _oldest_run_ms(self) -> int:
        # dict.copy is atomic under the interpreter's lock; iterating a dict that changes is not.
        started = [job.started for job in self._slots.running.copy().values()]
        return max(0, int((self._context.now() - min(started)) * 1000)) if started else 0
