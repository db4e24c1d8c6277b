"""The thread that keeps a worker's leases and its place in the fleet.

A thread with a connection of its own, so that a task that blocks the event loop does not cost the other tasks their
leases. A loop that has been still for longer than the stall limit is not renewed for: its tasks go to other workers,
and liveness fails.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.protocol.bounds import id_bytes, windows
from taskfleet.redis import connection

if TYPE_CHECKING:
    from taskfleet.runtime.worker import Worker

logger = showing.logger("taskfleet.leases")


class LeaseKeeper(threading.Thread):
    """Renews every lease of the worker each third of it, and sends its heartbeat.

    `on_lost` (with ids and their deliveries), `on_cancel` (with ids) and `on_cordon` (with the flag) are called on this
    thread.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        interval: float,
        stall_limit: float,
        on_lost: Callable[[dict[str, int]], None],
        on_cancel: Callable[[list[str]], None],
        on_cordon: Callable[[bool], None],
    ) -> None:
        super().__init__(name="taskfleet-leases", daemon=True)
        self._worker = worker
        self._interval = interval
        self._stall_limit = stall_limit
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._on_cordon = on_cordon
        self._poke = threading.Event()
        self._stop_asked = False
        self._renewer = worker.queue.new_renewer()
        self.last_success = time.monotonic()

    def poke(self) -> None:
        """Send a heartbeat now."""
        self._poke.set()

    def stop(self) -> None:
        """Let the thread end; a last heartbeat is not sent."""
        self._stop_asked = True
        self._poke.set()

    async def ended(self, seconds: float) -> None:
        """Wait for the end, for so long. Not by the loop's own threads: a task may have shut them down."""
        until = time.monotonic() + seconds
        while self.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - threads set no events of a loop
            await asyncio.sleep(0.005)

    def stalled(self) -> bool:
        """Whether the event loop has been still for too long."""
        return time.monotonic() - self._worker.loop_beat > self._stall_limit

    def run(self) -> None:
        failures = 0
        while not self._stop_asked:
            try:
                failures = self._turn(failures)
            except Exception:
                # This thread must outlive every surprise: without it the worker's tasks would be taken over.
                logger.exception("the lease thread met an error and goes on")
                self._poke.wait(self._interval)
        self._renewer.close()

    def _turn(self, failures: int) -> int:
        """One round, after so many that have failed; returns how many that are now."""
        self._poke.clear()
        try:
            if not self.stalled():
                self._renew()
            self._heartbeat()
        except (redis_exceptions.RedisError, OSError) as error:
            failures += 1
            if failures in (1, 10) or failures % 100 == 0:
                logger.warning("leases cannot be renewed: %s", connection.connection_error(self._url, error))
            self._renewer.dropped(error)
            self._poke.wait(min(self._interval, connection.backoff_seconds(failures)))
            return failures
        self.last_success = time.monotonic()
        self._poke.wait(self._interval)
        return 0

    @property
    def _url(self) -> str:
        return self._worker.queue.url

    def _renew(self) -> None:
        worker = self._worker
        now = worker.now()
        busy: dict[str, int] = defaultdict(int)
        for job in worker.running.copy().values():
            busy[job.queue] += job.unbilled_ms(now)
        held: dict[str, list[tuple[str, int]]] = defaultdict(list)
        # dict.copy is one step under the interpreter's lock; iterating the live dict is not.
        for task_id, (queue, delivery) in worker.held.copy().items():
            held[queue].append((task_id, delivery))
        for queue in held.keys() | busy.keys():
            items = held[queue]
            lease_ms = int(worker.queue.options_of(queue).lease_seconds * 1000)
            for start, end, _ in [*windows(items, id_bytes)] or [(0, 0, 0)]:
                lost, cancelled = self._renewer.renew(
                    queue,
                    worker.incarnation,
                    lease_ms,
                    busy[queue] if start == 0 else 0,
                    items[start:end],
                )
                if lost:
                    # An outcome may have been recorded since the copy: only what is still held is lost.
                    deliveries = dict(items[start:end])
                    self._on_lost({task_id: deliveries[task_id] for task_id in lost if task_id in deliveries})
                if cancelled:
                    self._on_cancel(cancelled)

    def _heartbeat(self) -> None:
        worker = self._worker
        ttl_ms = int(max(3 * self._interval, 15.0) * 1000)
        self._on_cordon(self._renewer.heartbeat(worker.worker_id, worker.name, ttl_ms, worker.describe()))
