"""Rates from counters: arrivals per second, and the mean service time of a task."""

from __future__ import annotations

from .history import STABLE_WINDOW_SECONDS, Point, QueueHistory, ScalingState
from .sample import FleetSample, QueueSample

PRIOR_TASKS = 10
"""The weight of the previous estimate against the measurement, in tasks."""

HISTORY_TASKS = 5
"""With fewer finished tasks the service time is a guess."""

_CLOSEST_POINTS_SECONDS = 0.5
"""Of points closer than this only the last is kept, so that a storm of wake-ups does not grow the state."""


def went_backwards(sample: FleetSample, state: ScalingState) -> bool:
    """Whether any counter is lower than it was: a failover to an older replica, or a flushed database."""
    return any(_is_lower(queue, state.points(queue.name)) for queue in sample.queues)


def record(sample: FleetSample, state: ScalingState, prior_seconds: float, now: float) -> tuple[QueueHistory, ...]:
    """The histories with this sample added. A queue whose counters went backwards restarts, with its run time kept."""
    histories: list[QueueHistory] = []
    for queue in sample.queues:
        points = state.points(queue.name)
        fresh = _point(queue, points, prior_seconds, now)
        kept = () if _is_lower(queue, points) else _thinned(_within_window(points, now), fresh)
        histories.append(QueueHistory(queue.name, (*kept, fresh)))
    return tuple(histories)


def arrivals_per_second(points: tuple[Point, ...], window_seconds: float) -> float:
    """Arrivals per second over the window that ends at the last point.

    A history shorter than the window is divided by the whole window, as if nothing had arrived before the first sample.
    So one burst right after a start is not taken for a steady rate. The short window shows an actual one.
    """
    if len(points) < 2:
        return 0.0
    last = points[-1]
    start = _anchor(points, last.at - window_seconds)
    return max(0, last.runnable - start.runnable) / max(last.at - start.at, window_seconds)


def is_history(queue: QueueSample, prior_seconds: float) -> bool:
    """Whether run times were measured: enough tasks have finished, or running ones outweigh the prior."""
    return queue.attempts_total >= HISTORY_TASKS or queue.busy_ms_total / 1000 > PRIOR_TASKS * prior_seconds


def _point(queue: QueueSample, points: tuple[Point, ...], prior_seconds: float, now: float) -> Point:
    busy = queue.busy_ms_total / 1000
    if points and not _is_lower(queue, points):
        start = _anchor(points, now - STABLE_WINDOW_SECONDS)
        ran = max(0.0, busy - start.busy_seconds)
        ended = queue.attempts_total - start.attempts
        # S = (S0·10 + Δbusy) / (10 + Δdone), with S0 the estimate at the window's start. It follows a slow drift within
        # a window, and does not follow a single odd task. The counter of busy time includes tasks that still run.
        service = (start.service_seconds * PRIOR_TASKS + ran) / (PRIOR_TASKS + ended)
    elif points:
        service = points[-1].service_seconds
    elif queue.attempts_total >= HISTORY_TASKS:
        service = busy / queue.attempts_total  # the first sample after a restart: the mean over the queue's life
    else:
        service = (prior_seconds * PRIOR_TASKS + busy) / (PRIOR_TASKS + queue.attempts_total)
    return Point(now, queue.runnable_total, queue.attempts_total, busy, service)


def _is_lower(queue: QueueSample, points: tuple[Point, ...]) -> bool:
    return bool(points) and (
        queue.runnable_total < points[-1].runnable
        or queue.attempts_total < points[-1].attempts
        or queue.busy_ms_total / 1000 < points[-1].busy_seconds
    )


def _anchor(points: tuple[Point, ...], at: float) -> Point:
    """The newest point at or before this time, else the oldest point."""
    return next((point for point in reversed(points) if point.at <= at), points[0])


def _within_window(points: tuple[Point, ...], now: float) -> tuple[Point, ...]:
    old = [index for index, point in enumerate(points) if point.at <= now - STABLE_WINDOW_SECONDS]
    return points[old[-1] :] if old else points


def _thinned(points: tuple[Point, ...], fresh: Point) -> tuple[Point, ...]:
    if len(points) >= 2 and fresh.at - points[-2].at < _CLOSEST_POINTS_SECONDS:
        return points[:-1]
    return points
