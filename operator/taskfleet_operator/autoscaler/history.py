"""The autoscaler's memory from one decision to the next. Immutable; the caller keeps it."""

from __future__ import annotations

from dataclasses import dataclass, replace

STABLE_WINDOW_SECONDS = 60.0
"""The window for the steady rate, as in Knative's autoscaler."""

_SOONEST_POLL = 0.8  # of the interval: a look that was late is followed by one in time

LONGEST_WINDOW_SECONDS = 3600.0
"""The longest stabilisation window that a TaskQueue may have."""


@dataclass(frozen=True, slots=True)
class Point:
    """A queue's counters at one time, and the estimate of the mean service time then. Seconds.

    `longest_seconds` is the longest run that can have been seen until then, `idle_at` when no run was last seen,
    `oldest_run_seconds` the age of the oldest run at that time.
    """

    at: float
    runnable: int
    attempts: int
    busy_seconds: float
    service_seconds: float
    parked: int = 0
    longest_seconds: float = float("inf")
    idle_at: float = 0.0
    oldest_run_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """The points of one queue, oldest first."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """How many replicas were wanted at a time, before stabilisation.

    A guess, made before any run time was known, is no reason to keep the replicas once it is known.
    """

    at: float
    replicas: int
    is_guess: bool = False


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """Replicas that were added (positive) or deleted (negative) at a time."""

    at: float
    change: int


@dataclass(frozen=True, slots=True)
class ScalingState:
    """The history that a decision needs. Times are seconds on the caller's clock, the one that gives `now`.

    `signals` counts equal Threshold signals in a row, positive for up, and `failures` failed samples in a row. Of the
    looks within one poll interval only the first counts: pods that come and go cause many. `hold_until` forbids scaling
    down after a sample that cannot be true; `doubted_since` is when such samples began that tell the same doubt again
    and again. After a start `restarted_with` replicas are kept for one stable window.
    """

    started: float
    last_active: float
    last_current: int
    last_desired: int
    last_decided: float
    panic_until: float = 0.0
    hold_until: float = 0.0
    doubted_since: float | None = None
    restarted_with: int = 0
    failures: int = 0
    failed_at: float = float("-inf")
    signals: int = 0
    signalled_at: float = float("-inf")
    queues: tuple[QueueHistory, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    events: tuple[ScaleEvent, ...] = ()

    @classmethod
    def initial(
        cls, current: int, now: float, *, last_active: float | None = None, panic_until: float | None = None
    ) -> ScalingState:
        """The state of a start or restart.

        As in Kubernetes' HPA, the current count is the first recommendation. So a restart, which forgets earlier
        samples, scales nothing down within a stabilisation window. The same holds for the window that the rates need
        to fill, for these replicas and not for others that someone adds. The two times come from `status`.
        """
        return cls(
            started=now,
            last_active=now if last_active is None else min(last_active, now),
            last_current=current,
            last_desired=current,
            last_decided=now,
            panic_until=panic_until or 0.0,
            restarted_with=current,
            recommendations=(Recommendation(now, current),),
        )

    def points(self, name: str) -> tuple[Point, ...]:
        return next((history.points for history in self.queues if history.name == name), ())

    def until(self, now: float) -> ScalingState:
        """A copy without what lies in the future: the clock was set back, or a time in `status` is not of this clock.

        An entry of the future would forbid a change for as long as the clock was set back.
        """
        return replace(
            self,
            started=min(self.started, now),
            last_active=min(self.last_active, now),
            last_decided=min(self.last_decided, now),
            failed_at=min(self.failed_at, now),
            signalled_at=min(self.signalled_at, now),
            panic_until=self.panic_until if self.panic_until <= now + STABLE_WINDOW_SECONDS else 0.0,
            hold_until=self.hold_until if self.hold_until <= now + LONGEST_WINDOW_SECONDS else 0.0,
            doubted_since=None if self.doubted_since is None else min(self.doubted_since, now),
            queues=tuple(
                QueueHistory(history.name, tuple(point for point in history.points if point.at <= now))
                for history in self.queues
            ),
            recommendations=tuple(entry for entry in self.recommendations if entry.at <= now),
            events=tuple(event for event in self.events if event.at <= now),
        )


def is_another_poll(last: float, now: float, poll_interval_seconds: float) -> bool:
    """Whether a look is about one poll interval after the last one that counted."""
    return now - last >= _SOONEST_POLL * poll_interval_seconds
