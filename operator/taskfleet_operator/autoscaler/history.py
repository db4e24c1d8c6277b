"""The autoscaler's memory from one decision to the next. Immutable; the caller keeps it."""

from __future__ import annotations

from dataclasses import dataclass

STABLE_WINDOW_SECONDS = 60.0
"""The window for the steady rate, as in Knative's autoscaler."""


@dataclass(frozen=True, slots=True)
class Point:
    """A queue's counters at one time, and the estimate of the mean service time then. Seconds."""

    at: float
    runnable: int
    attempts: int
    busy_seconds: float
    service_seconds: float


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """The points of one queue, oldest first."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """How many replicas were wanted at a time, before stabilisation."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """Replicas that were added (positive) or deleted (negative) at a time."""

    at: float
    change: int


@dataclass(frozen=True, slots=True)
class ScalingState:
    """The history that a decision needs. Times are seconds on the caller's clock, the one that gives `now`.

    `signals` counts equal Threshold signals in a row, positive for up. `hold_until` forbids scaling down after a start,
    or a sample that cannot be true; `silent_since` is when heartbeats went missing under ready pods.
    """

    started: float
    last_active: float
    last_current: int
    last_desired: int
    last_decided: float
    panic_until: float = 0.0
    hold_until: float = 0.0
    silent_since: float | None = None
    failures: int = 0
    signals: int = 0
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
        to fill. The two times come from `status`, when it has them.
        """
        return cls(
            started=now,
            last_active=now if last_active is None else min(last_active, now),
            last_current=current,
            last_desired=current,
            last_decided=now,
            panic_until=panic_until or 0.0,
            hold_until=now + STABLE_WINDOW_SECONDS if current else 0.0,
            recommendations=(Recommendation(now, current),),
        )

    def points(self, name: str) -> tuple[Point, ...]:
        return next((history.points for history in self.queues if history.name == name), ())
