"""The state of a worker, as its probes and its heartbeat report it."""

from __future__ import annotations

import threading
import time

from taskfleet.redis.urls import address

_UNREACHABLE_SECONDS = 10.0  # how long Redis may be unreachable before the worker is not ready


class Health:
    """The worker's loop writes it; the lease thread and the probe server read it."""

    def __init__(self, stall_limit: float, url: str) -> None:
        self._url = url  # of Redis
        self.started_ms = int(time.time() * 1000)
        self.idle_since_ms = self.started_ms  # 0 while it is busy
        self.loop_beat = time.monotonic()
        self.connected = False  # a heartbeat was answered, so that it is known whether the worker is cordoned
        self.failing_since: float | None = None
        self.last_renewal = self.loop_beat  # loop time of the last renewal of the leases
        self.memory_full = False
        self.cordoned = False
        self.draining = False
        self.stopped = False
        self.unhealthy = ""  # the reason why the worker ends by itself
        self.news = threading.Event()  # set to send a heartbeat now, before its regular time
        self._stall_limit = stall_limit

    @property
    def claims_nothing(self) -> bool:
        return self.draining or self.cordoned or not self.connected

    def state(self, *, holds_leases: bool) -> str:
        """The state that the heartbeat reports."""
        if self.draining:
            return "draining"
        if self.cordoned:
            return "cordoned" if holds_leases else "drained"
        return "running" if self.connected else "starting"

    @property
    def ready(self) -> bool:
        """Whether it can claim tasks. A full worker is ready; a draining one, or one without Redis, is not."""
        since = self.failing_since
        unreachable = since is not None and time.monotonic() - since > _UNREACHABLE_SECONDS
        return self.connected and not self.draining and not unreachable

    def why_not_ready(self) -> str:
        return "draining" if self.draining else f"no answer from Redis at {address(self._url)}"

    @property
    def stalled(self) -> bool:
        """Whether the event loop has been blocked for longer than the stall limit."""
        return time.monotonic() - self.loop_beat > self._stall_limit

    @property
    def alive(self) -> bool:
        """Whether the worker works properly; if not, it should be restarted."""
        return self.stopped or not self.why_not_alive()

    def why_not_alive(self) -> str:
        return self.unhealthy or ("the event loop stands still" if self.stalled else "")
