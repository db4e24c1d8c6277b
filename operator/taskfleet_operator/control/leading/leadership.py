"""Which of several operators writes: the one that holds a Lease.

The rules are those of client-go's leaderelection, made tighter where it lets two write at a time:

- Only durations that this process has measured count, on a clock that also runs while the process or the machine
  sleeps. The times inside the Lease are for people.
- `is_leading` compares the clock with the last renewal, counted from before the renewal was sent. So a process that
  was stopped for half a minute knows that it does not lead before it has run one line of anything else.
- A Lease that somebody has deleted, emptied or shortened is not free at once: its holder may still be writing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from taskfleet import showing
from taskfleet.errors import ConfigurationError

from ..api.kubernetes_api import ApiError
from .lease import Lease, Leases

logger = showing.logger("taskfleet.operator")

LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 15.0, 10.0, 2.0
"""A standby follows a holder that is silent for the first, a holder stops writing after the second without a renewal,
and renews every third."""
STANDBY_SECONDS = 1.0
"""Between two looks of a standby, so that a released Lease is taken within a second."""

_REQUEST_SECONDS = 4.0  # two renewals fit into RENEW_SECONDS even when the first gets no answer
_STOP_SECONDS = 20.0
_LONGEST_SECONDS = 60.0  # of a duration in the Lease that is respected: a typing error must not stop all operators
RELEASED_BY = "taskfleet.io/released-by"

_FAILURES = (ApiError, OSError, TimeoutError, ConfigurationError, ValueError)


def boot_time() -> float:
    """Seconds on a clock that goes on while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class StuckTermError(Exception):
    """The parts that write did not stop. Only a new process is safe."""


class Leadership:
    """Takes, renews and releases a Lease. Without `leases` this process always leads.

    `identity` is unique to this process. Its part before the first `_` may name a pod: what an earlier container of
    the same pod has held is taken over at once, as that container is dead. `started` is called when this process
    begins to lead, `stopped` when it no longer does; `stopped` has to end whatever writes.
    """

    def __init__(
        self,
        leases: Leases | None,
        identity: str,
        *,
        pod: str = "",
        clock: Callable[[], float] = boot_time,
    ) -> None:
        self._leases = leases
        self.identity = identity
        self._pod = pod
        self._clock = clock
        self._closed = False
        self._until = float("-inf")
        self._mine: Lease | None = None  # the Lease as this process has written it last
        self._probation = False
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = float("-inf")  # when the holder or its renewal was last seen to change
        self._others_at: float | None = None  # when another holder was last seen at all
        self._telling = False
        self._failures = 0
        self.holder = ""
        self._told_holder = ""
        self.terms = 0

    def is_leading(self) -> bool:
        """Whether this process may write now. To be asked immediately before each write."""
        return self._clock() < self._until and not self._closed

    def seconds_left(self) -> float:
        """The seconds in which nobody else can lead: what is sent now must have ended by then."""
        return self._until + LEASE_SECONDS - RENEW_SECONDS - self._clock()

    async def run(self, started: Callable[[], None], stopped: Callable[[], Awaitable[None]]) -> None:
        """Campaign and renew until cancelled. Raises `StuckTermError` when `stopped` does not return."""
        while True:
            began = self._clock()
            await self.turn()
            if self.is_leading() != self._telling:
                self._telling = not self._telling
                if self._telling:
                    self.terms += 1
                    logger.info("this process leads (%s)", self.identity)
                    started()
                else:
                    logger.warning("this process no longer leads (%s)", self.identity)
                    await self._stop(stopped)
            now = self._clock()
            pause = began - now + (RETRY_SECONDS if self._mine is not None else STANDBY_SECONDS)
            if self._mine is not None and not self._telling:
                pause = RETRY_SECONDS  # a whole one, in which another holder notices that it is none
            if self._telling:
                pause = min(pause, self._until - now)  # the end is told as soon as it has come
            await asyncio.sleep(max(0.1, pause))

    async def release(self) -> None:
        """Stop leading for good, and let a standby follow at once. To be called when nothing writes any more."""
        self.close()
        mine, leases = self._mine, self._leases
        self._mine = None
        if mine is None or leases is None or self._clock() >= self._until:
            return
        spec = {name: value for name, value in mine["spec"].items() if name != "holderIdentity"}
        annotations = {**(mine["metadata"].get("annotations") or {}), RELEASED_BY: self.identity}
        metadata = {**mine["metadata"], "annotations": annotations}
        try:
            await leases.replace({**mine, "metadata": metadata, "spec": {**spec, "leaseDurationSeconds": 1}}, 2.0)
        except _FAILURES as error:
            logger.warning("the Lease could not be released, a standby follows in %g s: %s", LEASE_SECONDS, error)

    def close(self) -> None:
        """Nothing may be written from now on."""
        self._closed = True

    @staticmethod
    async def _stop(stopped: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await stopped()
        except TimeoutError:
            raise StuckTermError(f"the parts that write did not stop within {_STOP_SECONDS:g} s") from None

    async def turn(self) -> None:
        """Look at the Lease once, or renew it. A failure is logged, and is no renewal."""
        leases = self._leases
        if leases is None:
            self._until = float("inf")
            return
        # A leader waits for an answer only as long as it leads, so that it stops in time.
        left = self._until - self._clock()
        patience = min(_REQUEST_SECONDS, left) if left > 0 else _REQUEST_SECONDS
        try:
            async with asyncio.timeout(patience):
                await self._look(leases, patience)
            self._failures = 0
        except _FAILURES as error:
            self._failures += 1
            if self._failures & (self._failures - 1) == 0:  # the first, the second, the fourth, …
                logger.warning("the Lease cannot be read or renewed (%d in a row): %s", self._failures, _told(error))

    async def _look(self, leases: Leases, seconds: float) -> None:
        if self._mine is not None and await self._write(leases, self._mine, seconds):
            return
        live = await leases.read(seconds)
        now = self._clock()
        self._observe(live, now)
        if self._is_free(live, now):
            # A Lease that was never seen may have been deleted a moment ago, under a holder that this process does not
            # know. That holder notices at its next renewal; until then this process holds the Lease without leading.
            self._probation = live is None and not self.is_leading()
            await self._write(leases, live, seconds)
        elif self.holder != self.identity:
            self._until = float("-inf")
            if self.holder and self.holder != self._told_holder:
                logger.info("this process stands by: %s leads", self.holder)
        self._told_holder = self.holder

    async def _write(self, leases: Leases, live: Lease | None, seconds: float) -> bool:
        """Make the Lease this process's own, if it still is as `live`. Returns whether it was."""
        sent = self._clock()
        try:
            written = await (leases.replace if live is not None else leases.create)(self._renewed(live), seconds)
        except ApiError as error:
            # A Lease that cannot be made with 404 has no namespace; one that cannot be replaced is gone.
            if error.status != 409 and not (error.status == 404 and live is not None):
                raise
            self._mine = None
            return False
        self._mine = written
        self.holder = self.identity
        if self._probation:
            self._probation = False
        else:
            self._until = sent + RENEW_SECONDS
        return True

    def _renewed(self, live: Lease | None) -> Lease:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        before: dict[str, Any] = (live or {}).get("spec") or {}
        same = before.get("holderIdentity") == self.identity
        metadata = dict((live or {}).get("metadata") or {})
        if annotations := metadata.get("annotations"):
            metadata["annotations"] = {name: value for name, value in annotations.items() if name != RELEASED_BY}
        metadata.pop("managedFields", None)
        spec = {
            **before,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": before["acquireTime"] if same and before.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same or live is None else 1),
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    def _observe(self, live: Lease | None, now: float) -> None:
        if live is None:
            self.holder = ""
            return
        spec: dict[str, Any] = live.get("spec") or {}
        self.holder = str(spec.get("holderIdentity") or "")
        if self.holder != self.identity:
            self._others_at = now
        # An edit of a label is no sign of life.
        seen = (
            live["metadata"].get("uid"),
            *(spec.get(name) for name in ("holderIdentity", "renewTime", "leaseTransitions")),
        )
        if seen != self._seen:
            self._seen, self._seen_at = seen, now

    def _is_free(self, live: Lease | None, now: float) -> bool:
        """Whether this process may write the Lease: nobody else can still believe to hold it."""
        if live is None:
            return self.is_leading() or self._others_at is None or now - self._others_at >= LEASE_SECONDS
        if self.holder == self.identity:
            return True
        spec: dict[str, Any] = live.get("spec") or {}
        if not self.holder:
            annotations = live["metadata"].get("annotations") or {}
            unused = not spec.get("renewTime")
            if self.is_leading() or unused or annotations.get(RELEASED_BY):
                return True
        elif self._pod and self.holder.startswith(f"{self._pod}_"):
            return True
        duration = spec.get("leaseDurationSeconds")
        named = float(duration) if isinstance(duration, int) else LEASE_SECONDS
        return now - self._seen_at >= max(LEASE_SECONDS, min(named, _LONGEST_SECONDS))


def _told(error: BaseException) -> str:
    return str(error) or ("no answer" if isinstance(error, TimeoutError) else type(error).__name__)
