"""The slots that one queue needs.

    r     = min(1, S/D)
    slots = min( (F·r + λ·S·(1 - r))/u + (B + due)·r,
                 F + B + due + λ·L/u,
                 what the queue's own limits let run )

A task that is there, waiting or running, needs a slot for the share r of the time D in which the queue is to be
drained. Of the tasks that arrive meanwhile, only what is not yet running then is new: in an even flow F = λS, and the
first bracket is λS for every S. For S much shorter than D this is λS/u + B·S/D: the service rate is λ + B/D, and with
replicas that take L to start the backlog follows Ḃ = -B(t - L)/D, which does not oscillate while L/D ≤ 1/e. So D is the
target, or e·L where that is longer. For S ≥ D it is one slot a task, whatever S is believed to be. Running tasks belong
in the sum because it is compared with all replicas, those included that run them. The second line holds because there
are never more tasks than those that are there and those that arrive until a new replica works.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..resource.autoscaler_spec import AutoscalerSpec, TargetSpec
from .history import STABLE_WINDOW_SECONDS, Point, ScalingState
from .rates import arrivals_per_second, attempts_per_second, busy_slots, is_history, unevenness
from .sample import FleetSample, QueueSample

DEFAULT_START_SECONDS = 10.0
"""The start latency until one was measured: from a pod's creation to its worker's registration."""

_UNTOLD = TargetSpec().processing_time_seconds
"""Another run time than the default is one that the user knows."""

_RUSH_SECONDS = STABLE_WINDOW_SECONDS
"""The rate of the short window may last until the long one shows it; the queue may hold half of D's arrivals of it."""

PATIENCE = 0.25
"""A task may wait for this part of D before a load that is higher by chance needs another replica."""

_RECENT_SECONDS = 20.0
"""Whether tasks come to an end is judged over this time when one waits too long."""


@dataclass(frozen=True, slots=True)
class QueueTerms:
    """The formula's terms for one queue. `replicas_by_backlog` replaces its slots while there is no history.

    `steady_slots` and `drain_slots` are the two parts of the first line. `chance_slots` is how far its result is off
    by chance, when tasks arrive at random times, and `chance_seconds` how long that lasts. `late_slots` are what tasks
    need that would wait too long, 0 when none would. `slots` is the result, and `bound` says what it is bounded by, ""
    by nothing. With fewer than `kept_slots`, tasks that wait now would.
    `startable` of the waiting tasks may start beside those that run, by the queue's own limits. They wait briefly when
    they start within a part of D, as fast as runs end.
    """

    name: str
    arrivals_per_second: float
    panic_arrivals_per_second: float
    service_seconds: float
    drain_seconds: float
    waiting: int
    running: int
    steady_slots: float
    drain_slots: float
    chance_slots: float
    chance_seconds: float
    late_slots: float
    kept_slots: float
    slots: float
    panic_slots: float
    bound: str
    replicas_by_backlog: float
    startable: float
    waits_briefly: bool


def start_seconds(start_latency_seconds: float | None, spec: AutoscalerSpec) -> float:
    """L: the time until a replica works that is needed now, the wait for the next poll included. Seconds."""
    latency = DEFAULT_START_SECONDS if start_latency_seconds is None else start_latency_seconds
    return latency + spec.poll_interval_seconds


def drain_seconds(queue_target: float | None, start: float, spec: AutoscalerSpec) -> float:
    """D: the time in which a queue is drained. It is never so short that the loop would overshoot. Seconds."""
    return max(queue_target or float(spec.target.drain_seconds), math.e * start)


def horizons(start_latency_seconds: float | None, spec: AutoscalerSpec) -> tuple[float, float]:
    """How far to look ahead for due tasks, in seconds: for a start from zero, and for the drain term. (0, 0): not."""
    if spec.prewarm.mode == "Disabled":
        return 0.0, 0.0
    start = start_seconds(start_latency_seconds, spec)
    return start, max(start, float(spec.prewarm.horizon_seconds))


def terms_of(queue: QueueSample, sample: FleetSample, state: ScalingState, spec: AutoscalerSpec) -> QueueTerms:
    """The terms of one queue, from a state that has recorded this sample."""
    points = state.points(queue.name)
    service = points[-1].service_seconds
    utilisation = spec.target.utilization_percent / 100
    start = start_seconds(sample.start_latency_seconds, spec)
    drain = drain_seconds(queue.target_latency_seconds, start, spec)
    window = float(spec.panic.window_seconds)
    steady = arrivals_per_second(points, STABLE_WINDOW_SECONDS, window / 2) * queue.share
    panic = arrivals_per_second(points, window, window / 2) * queue.share
    waiting = queue.backlog + (queue.due if spec.prewarm.mode == "Enabled" else 0)
    present = queue.in_flight + waiting
    prior = spec.target.processing_time_seconds
    known = is_history(queue, float(prior), told=prior != _UNTOLD)
    share = min(1.0, service / drain)
    drain_slots = waiting * share
    late = _late_slots(queue, sample, points, drain, start)
    most, limit = _limit(queue, sample, points, service, utilisation)

    def steadily(rate: float) -> float:
        return (queue.in_flight * share + rate * service * (1 - share)) / utilisation

    def bounded(rate: float, counted: float = 1.0) -> tuple[float, str]:
        asked = max(steadily(rate * counted) + drain_slots, late) if known else late
        there = present + rate * start / utilisation
        slots = min(asked, there, most)
        return slots, "" if slots == asked else limit if slots == most else "one a task"

    slots, bound = bounded(steady)
    by_backlog = 0.0 if known else waiting / spec.target.backlog_per_replica
    startable = min(float(waiting), max(0.0, most - queue.in_flight))
    if by_backlog and startable < waiting:
        bound = limit
    return QueueTerms(
        name=queue.name,
        arrivals_per_second=steady,
        panic_arrivals_per_second=panic,
        service_seconds=service,
        drain_seconds=drain,
        waiting=waiting,
        running=queue.in_flight,
        steady_slots=steadily(steady) if known else 0.0,
        drain_slots=drain_slots if known else 0.0,
        chance_slots=min(_chance_slots(queue, points, steady, service, share), max(0.0, most - slots)),
        chance_seconds=service * (1 + unevenness(points, service)) / 2,
        late_slots=late,
        kept_slots=min(_kept_slots(queue, sample, points, drain, start), most),
        slots=slots,
        panic_slots=bounded(panic, utilisation * _RUSH_SECONDS / (_RUSH_SECONDS + drain / 2))[0],
        bound=bound,
        replicas_by_backlog=by_backlog,
        startable=startable,
        waits_briefly=_waits_briefly(queue, points, drain),
    )


def _chance_slots(queue: QueueSample, points: tuple[Point, ...], rate: float, service: float, share: float) -> float:
    """The standard deviation of the slots for tasks that arrive at random times.

    A number of tasks that run at a time, or arrive in a time, is off by its root. A mean of run times of which some
    are much longer than the mean is off by more.
    """
    busy = max(float(queue.in_flight), rate * service)
    seen = min(1.0, service / STABLE_WINDOW_SECONDS) * unevenness(points, service)
    return math.sqrt(busy * (share**2 + (1 - share) ** 2 * seen))


def _waits_briefly(queue: QueueSample, points: tuple[Point, ...], drain: float) -> bool:
    """Whether what waits will start within a part of D, as fast as runs end."""
    patience = drain * PATIENCE
    ended = _ended_per_second(queue, points)
    return queue.oldest_age_seconds <= patience and queue.backlog <= ended * patience


def _late_slots(
    queue: QueueSample, sample: FleetSample, points: tuple[Point, ...], drain: float, start: float
) -> float:
    """The slots without which tasks would wait longer than D, whatever S is believed to be.

    When the head of the queue is so old that a replica asked for now comes just in time, and every slot is busy, the
    runs that ended of late tell how many of the waiting tasks will still start in time. The others need slots.
    """
    if not queue.backlog or sample.has_free_slots or queue.oldest_age_seconds < drain - 2 * start:
        return 0.0
    working = sample.workers_registered
    if not working or busy_slots(points, _RECENT_SECONDS) * queue.share < queue.in_flight / 2:
        return 0.0  # the first workers have just begun: how many tasks they end is not known yet
    coming = max(sample.current_replicas, working)
    ended = _ended_per_second(queue, points) * coming / working
    left = max(start, drain - queue.oldest_age_seconds)
    late = queue.backlog - ended * left
    if late < 1:
        return 0.0
    present = queue.in_flight * coming / working
    return present + (min(late, present * late / (ended * left)) if ended else late)


def _kept_slots(
    queue: QueueSample, sample: FleetSample, points: tuple[Point, ...], drain: float, start: float
) -> float:
    """The slots without which what waits would not start within D, as fast as runs ended of late.

    `_late_slots` asks for them when the time has come. Until then these are no reason to grow, but a fleet that gave
    them back would want them again in a moment. A replica that is still to start counts as much as one that works.
    """
    if not queue.backlog or sample.has_free_slots:
        return 0.0
    startable = _ended_per_second(queue, points) * max(start, drain - queue.oldest_age_seconds)
    one_a_task = queue.in_flight + queue.backlog
    return min(one_a_task, queue.in_flight * queue.backlog / startable) if startable else one_a_task


def _ended_per_second(queue: QueueSample, points: tuple[Point, ...]) -> float:
    return attempts_per_second(points, _RECENT_SECONDS) * queue.share


def _limit(
    queue: QueueSample, sample: FleetSample, points: tuple[Point, ...], service: float, utilisation: float
) -> tuple[float, str]:
    """The most slots that the queue's own limits let it use, and the limit's name.

    How many keys there are is not known. But while tasks are parked and slots are free, the keys run what they may.
    """
    limits = [(math.inf, "")]
    if queue.concurrency is not None:
        limits.append((float(queue.concurrency), f"concurrency {queue.concurrency}"))
    if queue.rate_per_second is not None:
        limits.append((queue.rate_per_second * service / utilisation, f"{queue.rate_per_second:g} starts per second"))
    one_key = [
        *([float(queue.concurrency_per_key)] if queue.concurrency_per_key is not None else []),
        *([queue.rate_per_second_per_key * service] if queue.rate_per_second_per_key is not None else []),
    ]
    if one_key and queue.parked and sample.has_free_slots:
        used = max(float(queue.in_flight), busy_slots(points, _RECENT_SECONDS) * queue.share, min(one_key))
        limits.append((used / utilisation, "limits of keys"))
    return min(limits)
