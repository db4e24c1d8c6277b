"""Rates from counters: arrivals and ended runs per second, and the mean service time of a task."""

from __future__ import annotations

import itertools

from .history import STABLE_WINDOW_SECONDS, Point, QueueHistory, ScalingState
from .sample import FleetSample, QueueSample

PRIOR_TASKS = 10
"""The weight of the previous estimate against the measurement, in tasks."""

HISTORY_TASKS = 5
"""With fewer ended runs the service time is a guess, which weighs as much as one task."""

BURST_TASKS = 4
"""So many tasks may arrive together without being a burst."""

_BURST_FACTOR = 4.0
_TAIL = 3.0
"""The variance of run times over the square of their mean is about the longest over the mean, over this."""

_MOST_UNEVEN = 4.0
"""An earlier mean of uneven run times counts for more, but not so much that a change is never learnt."""

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
        fresh = _point(queue, points, prior_seconds, sample.oldest_run_seconds, now)
        kept = () if _is_lower(queue, points) else _thinned(_within_window(points, now), fresh)
        histories.append(QueueHistory(queue.name, (*kept, fresh)))
    return tuple(histories)


def arrivals_per_second(points: tuple[Point, ...], window_seconds: float, block_seconds: float) -> float:
    """Arrivals per second over the window that ends at the last point: tasks that became ready, and were not parked.

    A history shorter than the window is divided by the whole window, as if nothing had arrived before the first sample.
    So one burst right after a start is not taken for a steady rate. The short window shows an actual one.

    A burst is no rate either: it waits, and so counts as backlog. What arrives within a block of about `block_seconds`
    therefore counts only up to a few times the rate of the busier block beside it.
    """
    if len(points) < 2:
        return 0.0
    last = points[-1]
    start = points.index(_anchor(points, last.at - window_seconds))
    before = _blocks(points[: start + 1], block_seconds)[-1:]
    blocks = [*before, *_blocks(points[start:], block_seconds)]
    rates = [count / seconds for count, seconds in blocks]
    arrived = 0.0
    for index in range(len(before), len(blocks)):
        count, seconds = blocks[index]
        beside = [*rates[max(0, index - 1) : index], *rates[index + 1 : index + 2]]
        arrived += min(count, BURST_TASKS + _BURST_FACTOR * max(beside) * seconds) if beside else count
    return arrived / max(last.at - points[start].at, window_seconds)


def attempts_per_second(points: tuple[Point, ...], window_seconds: float) -> float:
    """Runs that ended per second, over the part of the window that was seen."""
    if len(points) < 2:
        return 0.0
    start = _anchor(points, points[-1].at - window_seconds)
    return (points[-1].attempts - start.attempts) / max(points[-1].at - start.at, _CLOSEST_POINTS_SECONDS)


def busy_slots(points: tuple[Point, ...], window_seconds: float) -> float:
    """How many slots were busy in the mean, over the part of the window that was seen."""
    if len(points) < 2:
        return 0.0
    start = _anchor(points, points[-1].at - window_seconds)
    return (points[-1].busy_seconds - start.busy_seconds) / max(points[-1].at - start.at, _CLOSEST_POINTS_SECONDS)


def unevenness(points: tuple[Point, ...], service_seconds: float) -> float:
    """The variance of run times over the square of their mean, at least 1: about the longest over the mean, over 3."""
    longest = max(point.oldest_run_seconds for point in points)
    return max(1.0, longest / service_seconds / _TAIL) if service_seconds else 1.0


def is_history(queue: QueueSample, prior_seconds: float, *, told: bool = False) -> bool:
    """Whether run times are known: enough runs have ended, running ones outweigh the prior, or the user has told."""
    return told or queue.attempts_total >= HISTORY_TASKS or queue.busy_ms_total / 1000 > PRIOR_TASKS * prior_seconds


def _point(queue: QueueSample, points: tuple[Point, ...], prior: float, oldest_run: float, now: float) -> Point:
    busy = queue.busy_ms_total / 1000
    idle_at = now if not queue.in_flight else points[-1].idle_at if points else now
    if not points:
        # The first sample after a restart: the mean over the queue's life, without the runs that have not ended.
        running = min(busy, queue.in_flight / (queue.share or 1.0) * oldest_run)
        known = queue.attempts_total >= HISTORY_TASKS
        service = (busy - running) / queue.attempts_total if known else prior
        longest = max(prior, service, oldest_run)
        if not known:
            service = min((prior + busy) / (1 + queue.attempts_total), longest)
        return Point(
            now, queue.runnable_total, queue.attempts_total, busy, service, queue.parked, longest, idle_at, oldest_run
        )
    last = points[-1]
    # What can have been seen: a run of which a worker tells the age, and one that began and ended between two looks.
    # Workers of earlier versions do not tell it; then a run is no older than the time for which the queue was busy.
    unknown = now - idle_at if queue.in_flight and not oldest_run else 0.0
    longest = max(last.longest_seconds, now - last.at + max(oldest_run, unknown))
    service = last.service_seconds
    if not _is_lower(queue, points):
        start = _anchor(points, now - STABLE_WINDOW_SECONDS)
        # S = (S0·n + Δbusy) / (n + Δdone), with S0 the estimate at the window's start. It follows a slow drift within
        # a window, and does not follow a single odd task. The counter of busy time includes tasks that still run.
        # A mean of uneven run times is seldom right, so the earlier ones count for more.
        uneven = min(_MOST_UNEVEN, unevenness(points, start.service_seconds))
        weight = PRIOR_TASKS * uneven**2 if start.attempts >= HISTORY_TASKS else 1
        ran, ended = max(0.0, busy - start.busy_seconds), queue.attempts_total - start.attempts
        service = (start.service_seconds * weight + ran) / (weight + ended)
    service = min(service, longest)
    return Point(
        now, queue.runnable_total, queue.attempts_total, busy, service, queue.parked, longest, idle_at, oldest_run
    )


def _is_lower(queue: QueueSample, points: tuple[Point, ...]) -> bool:
    return bool(points) and (
        queue.runnable_total < points[-1].runnable
        or queue.attempts_total < points[-1].attempts
        or queue.busy_ms_total / 1000 < points[-1].busy_seconds
    )


def _blocks(points: tuple[Point, ...], shortest: float) -> list[tuple[float, float]]:
    """(arrivals, seconds) of consecutive blocks, oldest first. Each takes `shortest` seconds, but for the oldest."""
    edges = list(points[-1:])
    for point in reversed(points[:-1]):
        if edges[-1].at - point.at >= shortest or point is points[0]:
            edges.append(point)
    edges.reverse()
    return [
        (float(max(0, (end.runnable - end.parked) - (begin.runnable - begin.parked))), end.at - begin.at)
        for begin, end in itertools.pairwise(edges)
        if end.at > begin.at
    ]


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
