"""The thread that renews a worker's leases and sends its heartbeat.

It has a separate connection and thread, so that a task that blocks the event loop does not cost the other tasks their
leases. When the loop has been blocked for longer than the stall limit, no lease is renewed: its tasks go to other
workers, and the liveness probe fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.application import Application
from taskfleet.backoff import backoff_seconds
from taskfleet.protocol.bounds import id_bytes, windows
from taskfleet.protocol.claim import HeldTask
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.redis_errors import connection_error
from taskfleet.runtime.fleet.drain import Drain
from taskfleet.runtime.fleet.heartbeat import Heartbeat
from taskfleet.runtime.running.interrupts import Interrupts
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.identity import Identity
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Renewer

logger = showing.logger("taskfleet.leases")


class LeaseKeeper(threading.Thread):
    """Renews every lease of the worker after each third of its duration, and sends the heartbeat."""

    def __init__(
        self,
        application: Application,
        context: RunContext,
        identity: Identity,
        slots: Slots,
        held: Held,
        health: Health,
        heartbeat: Heartbeat,
        interrupts: Interrupts,
        drain: Drain,
        *,
        renewer: Renewer,
        interval: float,
    ) -> None:
        super().__init__(name="taskfleet-leases", daemon=True)
        self._options_of = application.options_of
        self._run_context = context
        self._identity = identity
        self._slots = slots
        self._held = held
        self._health = health
        self._heartbeat = heartbeat
        self._interrupts = interrupts
        self._drain = drain
        self._renewer = renewer
        self._interval = interval
        self._stop_asked = False
        self._renewed_at = time.monotonic()  # when the last complete renewal began
        health.last_renewal = time.monotonic()

    def stop(self) -> None:
        """Let the thread end, without a last heartbeat."""
        self._stop_asked = True
        self._health.news.set()

    async def ended(self, seconds: float) -> None:
        """Wait for the end, at most `seconds`.

        It does not use the loop's thread pool, which a task may have shut down.
        """
        until = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - threads set no events of a loop
            await asyncio.sleep(0.005)

    def run(self) -> None:
        failures = 0
        while not self._stop_asked:
            try:
                failures = self._turn(failures)
            except Exception:
                # This thread must survive all errors: without it the worker's tasks would be taken over.
                logger.exception("the lease thread met an error and goes on")
                self._health.news.wait(self._interval)
        self._renewer.close()

    def _turn(self, failures: int) -> int:
        """One round after `failures` failed ones; returns the new number of consecutive failures."""
        self._health.news.clear()
        try:
            if not self._health.stalled:
                self._renew()
            self._beat()
        except (redis_exceptions.RedisError, OSError) as error:
            failures += 1
            if failures in (1, 10) or failures % 100 == 0:
                problem = connection_error(self._run_context.broker.url, error)
                if self._health.connected:
                    logger.warning("leases cannot be renewed: %s", problem)
                else:
                    logger.warning("nothing is claimed yet: %s (trying again, %d so far)", problem, failures)
            self._renewer.dropped(error)
            self._health.news.wait(min(self._interval, backoff_seconds(failures)))
            return failures
        if failures and not self._health.connected:
            logger.info("Redis answers")
        self._health.last_renewal = time.monotonic()
        self._health.news.wait(self._interval)
        return 0

    def _renew(self) -> None:
        began, now = time.monotonic(), self._run_context.now()
        busy: dict[Partition, int] = defaultdict(int)
        for job in self._slots.running.copy().values():
            busy[job.partition] += job.unbilled_ms(now)
        held: dict[Partition, list[HeldTask]] = defaultdict(list)
        # dict.copy is atomic under the interpreter's lock; iterating a dict that changes is not.
        for task_id, (partition, delivery) in self._held.copy().items():
            held[partition].append((task_id, delivery))
        for partition in held.keys() | busy.keys():
            self._renew_in(partition, held[partition], busy[partition])
        self._renewed_at = began

    def _renew_in(self, partition: Partition, held: list[HeldTask], busy_ms: int) -> None:
        lease_ms = int(self._options_of(partition).lease_seconds * 1000)
        # Every lease is as young as the renewal before this one, or younger.
        were_held = time.monotonic() - self._renewed_at < lease_ms / 1000
        incarnation = self._identity.incarnation
        for start, end, _ in [*windows(held, id_bytes)] or [(0, 0, 0)]:
            some = held[start:end]
            reply = self._renewer.renew(partition, incarnation, lease_ms, 0 if start else busy_ms, some)
            # An outcome may have been recorded since the copy: only leases that are still held are lost.
            deliveries = dict(some)
            if reply.lost:
                self._on_loop(self._interrupts.lost, {i: deliveries[i] for i in reply.lost if i in deliveries})
            if reply.unknown:
                unknown = {i: deliveries[i] for i in reply.unknown if i in deliveries}
                self._on_loop(self._interrupts.unknown, unknown, were_held)
            if reply.cancelled:
                self._on_loop(self._interrupts.interrupt, reply.cancelled, "cancel")

    def _beat(self) -> None:
        ttl_ms = int(max(3 * self._interval, 15.0) * 1000)
        worker_id, name = self._identity.worker_id, self._identity.name
        cordoned = self._renewer.heartbeat(worker_id, name, ttl_ms, self._heartbeat.fields())
        self._on_loop(self._drain.set_cordoned, cordoned)

    def _on_loop(self, function: Callable[..., None], *args: Any) -> None:
        # The loop may have ended before this thread.
        with contextlib.suppress(RuntimeError):
            self._run_context.loop.call_soon_threadsafe(function, *args)
