"""Background loops of a worker: its beat, messages of the fleet, and new partitions."""

from __future__ import annotations

import asyncio
import contextlib
import time

from taskfleet.errors import TaskQueueError
from taskfleet.protocol.claim import CLAIM_ID
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.claiming.dispatcher import Dispatcher
from taskfleet.runtime.claiming.wakeups import Listeners
from taskfleet.runtime.recording.reporting import Reports
from taskfleet.runtime.running.interrupts import Interrupts
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.prefetch import Prefetch
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection
from taskfleet.runtime.state.tally import Tally
from taskfleet.supervising import supervise

_LOOK_FOR_PARTITIONS_SECONDS = 30.0
_BEAT_SECONDS = 0.5


class BackgroundLoops:
    """Three loops, each restarted when it fails."""

    def __init__(
        self,
        context: RunContext,
        identity: Identity,
        health: Health,
        selection: Selection,
        prefetch: Prefetch,
        tally: Tally,
        reports: Reports,
        dispatcher: Dispatcher,
        interrupts: Interrupts,
        listeners: Listeners,
    ) -> None:
        self._context = context
        self._identity = identity
        self._health = health
        self._selection = selection
        self._prefetch = prefetch
        self._tally = tally
        self._reports = reports
        self._dispatcher = dispatcher
        self._interrupts = interrupts
        self._listeners = listeners
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start all three."""
        loops = {
            "the beat of the loop": self._beat,
            "the control listener": self._listen_for_control,
            "looking for partitions": self._find_partitions,
        }
        self.tasks = {self._context.spawn(supervise(name, loop)) for name, loop in loops.items()}

    async def _beat(self) -> None:
        """Show that the event loop is alive, and return prefetched tasks that do not get a slot."""
        finished, last = -1, ""
        while True:
            self._health.loop_beat = time.monotonic()
            claims = self._prefetch.claims
            if claims and finished == self._tally.finished:
                # No task has ended since the last beat: such tasks are not worth claiming ahead.
                self._prefetch.took_at_least(_BEAT_SECONDS)
                self._dispatcher.give_up_prefetched()
            elif claims and claims[-1][CLAIM_ID] == last:
                # Tasks of higher tiers keep starting first: another worker may have slots for this one.
                self._dispatcher.give_up_prefetched()
            finished = self._tally.finished
            self._reports.flush()
            last = self._prefetch.claims[-1][CLAIM_ID] if self._prefetch.claims else ""
            await asyncio.sleep(_BEAT_SECONDS)

    async def _listen_for_control(self) -> None:
        async for message in self._context.broker.control():
            verb, _, target = message.partition(" ")
            if verb == "cancel":
                self._interrupts.interrupt([target], "cancel")
            elif not verb or target == self._identity.name:
                self._health.news.set()  # the next heartbeat, sent now, reports whether the worker is cordoned

    async def _find_partitions(self) -> None:
        """Serve partitions that a queue has lost by a change of its options, so that their tasks are run as well."""
        while True:
            with contextlib.suppress(TaskQueueError):
                for partition in map(Partition, await self._context.broker.partitions()):
                    if self._selection.add(partition):
                        self._listeners.add(partition)
            await asyncio.sleep(_LOOK_FOR_PARTITIONS_SECONDS)
