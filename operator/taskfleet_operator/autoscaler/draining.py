"""Changes the number of replicas without removing a busy worker: cordon, wait, uncordon.

A worker to remove is cordoned first, so that it claims no more tasks. Once it reports that it is drained, it is marked
for removal. The number falls only when the platform has had time to see the mark. A worker that takes too long is
uncordoned and stays, unless the user wants none at all: then it would only claim what the user has stopped. When demand
returns, the last cordoned workers are uncordoned first.

The platform follows the marks only among workers that are ready: one that is not goes first. So nothing is removed
while such a worker is busy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..resource.autoscaler_spec import AutoscalerSpec
from .decision import ScalingDecision
from .sample import WorkerSample
from .victims import choose_victims

_CORDON_MARGIN_SECONDS, _RENEW_SECONDS = 60.0, 30.0
_HEARTBEAT_SECONDS = 5.0
"""Until a heartbeat shows that a worker without a task is drained. No worker is given up sooner."""


@dataclass(frozen=True, slots=True)
class DrainingWorker:
    """A worker that was cordoned so that it can be removed. Times are seconds on the clock that gives `now`."""

    cordoned_at: float
    marked_at: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingSteps:
    """The steps of one look, in their order.

    `replicas` is the number to request now, and `removed` are the workers that are removed with it. `cordon` has the
    workers whose cordon is renewed, too. `draining` is the state for the next look when every step has succeeded.
    `waits_for` are busy workers that would be removed in place of drained ones, so that the number stays.
    """

    replicas: int
    uncordon: tuple[str, ...] = ()
    unmark: tuple[str, ...] = ()
    cordon: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    draining: Mapping[str, DrainingWorker] = field(default_factory=dict[str, DrainingWorker])
    waits_for: tuple[str, ...] = ()


def cordon_seconds(spec: AutoscalerSpec) -> float:
    """How long a cordon holds by itself: past the time in which this loop, or the one after a restart, lifts it."""
    return spec.scale_down.drain_timeout_seconds + _CORDON_MARGIN_SECONDS


def next_steps(
    decision: ScalingDecision,
    workers: Sequence[WorkerSample] | None,
    draining: Mapping[str, DrainingWorker],
    spec: AutoscalerSpec,
    now: float,
    *,
    absent: int = 0,
    settle_seconds: float = 0.0,
    together: bool = False,
) -> ScalingSteps:
    """The steps from `decision.current` towards `decision.desired`. Pure: the same arguments give the same steps.

    `workers` are all existing replicas that are not being removed, None when Redis could not be read. `absent` replicas
    are requested, do not exist, and are not about to be made. `settle_seconds` is the time that the platform needs to
    see a mark. `together`: the platform does not follow the marks now, so that all workers are removed or none.
    """
    if workers is None:
        # No cordon reaches a worker. Without a sample only the user or the fallback asks for another number.
        desired = decision.current if decision.advice else decision.desired
        return ScalingSteps(desired, draining=draining)
    names = {worker.name for worker in workers}
    left = {name: entry for name, entry in draining.items() if name in names}
    if decision.advice:
        return _staying(decision.current, list(left), left)
    # A rollout has more workers than are asked for. When all of them go, none is called off.
    spare = 0 if together and not decision.desired else decision.desired - (decision.current - len(left))
    called_off = _newest(left, spare)
    if decision.desired >= decision.current:
        staying = _staying(decision.desired, called_off, left)
        # During a rollout, old workers may be cordoned for new ones.
        return staying if together else _with_forgotten(staying, decision.current, workers)
    if spec.scale_down.victim_policy == "DeploymentDefault":
        return _staying(decision.desired, called_off, left)
    before = _staying(decision.current, called_off, left)
    steps = _shrinking(
        decision, workers, before, spec, now, absent=absent, settle_seconds=settle_seconds, together=together
    )
    steps = _spared(steps, workers, decision)
    # A removed worker keeps its cordon until the key expires, so that it claims no task while it ends.
    return replace(steps, draining={name: one for name, one in steps.draining.items() if name not in steps.removed})


def _newest(draining: Mapping[str, DrainingWorker], count: int) -> list[str]:
    """The last `count` workers that were cordoned: they have drained least."""
    newest_first = sorted(draining, key=lambda name: draining[name].cordoned_at, reverse=True)
    return newest_first[: max(0, count)]


def _staying(replicas: int, called_off: Sequence[str], draining: Mapping[str, DrainingWorker]) -> ScalingSteps:
    return ScalingSteps(
        replicas,
        uncordon=tuple(called_off),
        unmark=tuple(name for name in called_off if draining[name].marked_at is not None),
        draining={name: entry for name, entry in draining.items() if name not in called_off},
    )


def _with_forgotten(steps: ScalingSteps, current: int, workers: Sequence[WorkerSample]) -> ScalingSteps:
    """Also lift cordons and marks that an earlier loop left behind when it was killed.

    While more replicas exist than are requested, some of them are being removed. Those keep their cordon.
    """
    if len(workers) > current:
        return steps
    cordoned = [worker.name for worker in workers if worker.cordoned and worker.name not in steps.uncordon]
    marked = [worker.name for worker in workers if worker.marked and worker.name not in steps.unmark]
    if not cordoned and not marked:
        return steps
    return replace(steps, uncordon=(*steps.uncordon, *cordoned), unmark=(*steps.unmark, *marked))


def _shrinking(
    decision: ScalingDecision,
    workers: Sequence[WorkerSample],
    before: ScalingSteps,
    spec: AutoscalerSpec,
    now: float,
    *,
    absent: int,
    settle_seconds: float,
    together: bool,
) -> ScalingSteps:
    draining = dict(before.draining)
    there = len(workers) if together else decision.current  # a rollout has more pods than are asked for
    surplus = max(0, there - len(draining) - decision.desired)
    dropped = min(absent, surplus)
    staying = [worker for worker in workers if worker.name not in draining]
    by_name = {worker.name: worker for worker in workers}
    # Heartbeats are some seconds old: one that was cordoned may have claimed a task. An idle one takes its place.
    mistaken = [name for name, entry in draining.items() if entry.marked_at is None and by_name[name].busy]
    chosen = choose_victims(staying, surplus - dropped, drain_busy=decision.drains_busy)
    spare = choose_victims([worker for worker in staying if worker not in chosen], len(mistaken))
    chosen = (*chosen, *spare)
    given_up = _newest({name: draining[name] for name in mistaken}, len(spare))
    draining = {name: entry for name, entry in draining.items() if name not in given_up}
    draining |= {worker.name: DrainingWorker(now) for worker in chosen}
    mark: list[str] = []
    for name, entry in draining.items():
        worker = by_name[name]
        # A worker without a heartbeat runs no task: it has not started, or it has ended, or its leases have run out.
        drained = worker.drained or not worker.registered
        late = now - entry.cordoned_at > max(spec.scale_down.drain_timeout_seconds, _HEARTBEAT_SECONDS)
        if drained and entry.marked_at is None:
            mark.append(name)
        elif late and not drained and not decision.stops_all:
            given_up.append(name)
    # One that was marked before it had started may have started since. It must not go in place of a drained one.
    empty = {worker.name for worker in workers if worker.drained or not worker.registered}
    unmark = [name for name, entry in draining.items() if entry.marked_at is not None and name not in empty]
    draining |= {name: replace(draining[name], marked_at=None) for name in unmark}
    renewed = [
        name
        for name, entry in draining.items()
        if name not in given_up and now - entry.cordoned_at > cordon_seconds(spec) - _RENEW_SECONDS
    ]
    draining |= {name: replace(draining[name], cordoned_at=now) for name in renewed}
    draining |= {name: replace(draining[name], marked_at=now) for name in mark}
    draining = {name: entry for name, entry in draining.items() if name not in given_up}
    removed = _settled(draining, now, settle_seconds)
    if together:
        removed = removed if len(removed) == len(workers) else []
    else:
        removed = removed[: decision.current - dropped - decision.desired]
    return ScalingSteps(
        max(decision.desired, decision.current - dropped - len(removed)),
        uncordon=(*before.uncordon, *given_up),
        unmark=(*before.unmark, *unmark),
        cordon=(*(worker.name for worker in chosen), *renewed),
        mark=tuple(mark),
        removed=tuple(removed),
        draining=draining,
    )


def _spared(steps: ScalingSteps, workers: Sequence[WorkerSample], decision: ScalingDecision) -> ScalingSteps:
    """The same steps without a removal that would hit a busy worker which is not ready."""
    going = set(steps.removed)
    marked_and_ready = any(worker.ready for worker in workers if worker.name in going)
    endangered = [
        worker.name
        for worker in workers
        if worker.registered and not worker.ready and not worker.drained and worker.name not in going
    ]
    if not marked_and_ready or not endangered:
        return steps
    return replace(steps, replicas=decision.current, removed=(), waits_for=tuple(endangered))


def _settled(draining: Mapping[str, DrainingWorker], now: float, settle_seconds: float) -> list[str]:
    """The workers that were marked long enough ago; none while others will be in a moment.

    So the number changes once for several workers. It does not wait for workers that are still draining.
    """
    marks = {name: entry.marked_at for name, entry in draining.items()}
    settled = [name for name, at in marks.items() if at is not None and now - at >= settle_seconds]
    settling = any(at is not None and now - at < settle_seconds for at in marks.values())
    return [] if settling and None not in marks.values() else settled
