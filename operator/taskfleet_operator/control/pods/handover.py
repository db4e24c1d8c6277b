"""The handover of `updateStrategy: Drain`: new pods claim at once, and old ones finish what they run.

The Deployment may start all new pods beside the old ones (`maxSurge: 100%`) and removes an old pod when a new one is
ready. A readiness gate lets the operator say when: a new pod is admitted only when an old one is drained and marked, or
when fewer pods than asked for are ready. An old pod is cordoned only when a new worker has registered in its place, so
that a version that cannot start takes no capacity.

A third template would make the Deployment remove the pods that are not ready, busy or not. So they are cordoned, and
the template waits for a later look that shows each of them drained or without a worker: a worker that starts later
finds its cordon before it claims. Meanwhile the pods before them take the tasks again. The template waits for a removal
that is about to happen, too: it changes which ReplicaSets are old ones, and so which pod goes.

With several templates there are several old ReplicaSets. The Deployment removes pods of the oldest one first, marked or
not, so that a drained pod of a younger one has to wait for those of the older ones.

An old pod may serve another Redis than the new ones: then its heartbeats and cordons are out of reach. It is ready all
the same, and would count as one that works for ever. Such a pod is replaced as in a rolling update.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...autoscaler import WorkerSample, choose_victims
from ...children.pod_template import ADMITTED, WORKER_CONTAINER
from ..store.cluster_store import Object, is_ready

_ELSEWHERE_SECONDS = 30.0  # a worker that reaches this Redis has sent many heartbeats by then
_GAP_SECONDS = 10.0  # looks that are further apart do not show that there were none between them


class HandoverWaitsError(Exception):
    """Another pod template cannot be applied yet; the text names the pods that finish their tasks first."""


@dataclass(frozen=True, slots=True)
class OldPods:
    """The names of the pods of one old ReplicaSet, and the number that it is to have."""

    names: frozenset[str]
    wanted: int

    @property
    def number(self) -> int:
        """How many there may be: watch and number do not change at the same time."""
        return max(self.wanted, len(self.names))


@dataclass(frozen=True, slots=True)
class HandoverPods:
    """The pods of a Deployment and their workers, by name. `old_sets` are those of earlier templates, oldest first.

    `admitted_now` and `cordoned_now` are those of the last looks, which watch and heartbeats may not show yet.
    `elsewhere` are old pods that serve another Redis.
    """

    pods: Mapping[str, Object]
    workers: Mapping[str, WorkerSample]
    old_sets: tuple[OldPods, ...]
    admitted_now: frozenset[str] = frozenset()
    cordoned_now: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()

    @property
    def old(self) -> frozenset[str]:
        return frozenset[str]().union(*(one.names for one in self.old_sets))

    @property
    def new(self) -> frozenset[str]:
        return frozenset(self.pods.keys() - self.old)

    def registered(self, name: str) -> bool:
        return name in self.workers and self.workers[name].registered

    def cordoned(self, name: str) -> bool:
        return name in self.cordoned_now or (name in self.workers and self.workers[name].cordoned)

    def drained(self, name: str) -> bool:
        return name in self.workers and self.workers[name].drained

    def admitted(self, name: str) -> bool:
        return name in self.admitted_now or is_admitted(self.pods[name])

    def counts(self, name: str) -> bool:
        """Whether the Deployment takes it for available, or will in a moment."""
        return self.admitted(name) and (is_ready(self.pods[name]) or self.registered(name))


@dataclass(frozen=True, slots=True)
class HandoverSteps:
    """The steps of one look, in their order."""

    uncordon: tuple[str, ...] = ()
    cordon: tuple[str, ...] = ()
    unmark: tuple[str, ...] = ()
    mark: tuple[str, ...] = ()
    admit: tuple[str, ...] = ()


def admissions(pods: Mapping[str, Object]) -> HandoverSteps:
    """The steps while no rollout is under way: every pod is admitted."""
    return HandoverSteps(admit=tuple(name for name, pod in pods.items() if not is_admitted(pod)))


def handover_steps(
    there: HandoverPods, marked_at: Mapping[str, float], replicas: int, now: float, *, settle_seconds: float
) -> HandoverSteps:
    """The next steps of a rollout. Pure.

    `marked_at` is when each pod with a deletion cost was marked; `replicas` the number that is asked for. A mark counts
    after `settle_seconds`.
    """
    cordoned = {name for name in there.old if there.cordoned(name)}
    working = [there.workers[name] for name in there.old - cordoned if there.registered(name)]
    active = len(working) + sum(there.registered(name) and not there.cordoned(name) for name in there.new)
    started = sum(map(there.registered, there.new))
    surplus = min(started, active - replicas) if started else 0
    chosen = choose_victims(working, surplus, drain_busy=True)
    # New workers that are gone again leave their work to the old ones, the busiest first: these are empty last. Not to
    # pods that the Deployment removes before all others, because they are not ready, or is about to remove.
    leaving = {name for name, pod in there.pods.items() if not is_ready(pod)} | _going(there, marked_at, replicas)
    back = sorted(
        (there.workers[name] for name in cordoned - leaving if name in there.workers),
        key=lambda worker: (-worker.busy, worker.name),
    )
    returned = [worker.name for worker in back][: max(0, replicas - active)]
    drained = {name for name in cordoned if there.drained(name) and name not in returned}
    if started:  # never for a version that does not start
        drained |= there.elsewhere
    settled = {name for name in drained if there.counts(name) and now - marked_at.get(name, now) >= settle_seconds}
    admit = _admitted(there, replicas + _removable(there, settled))
    # The Deployment removes old pods that are not ready before all others, as soon as a new one is.
    endangered = {
        name
        for name in there.old
        if there.registered(name) and not there.drained(name) and not is_ready(there.pods[name])
    }
    if endangered:
        admit = tuple(name for name in admit if name in there.old)
    return HandoverSteps(
        uncordon=(*returned, *sorted(filter(there.cordoned, there.new))),
        cordon=tuple(worker.name for worker in chosen),
        unmark=tuple(sorted(name for name in marked_at if name in there.new or name in returned)),
        mark=tuple(sorted(drained - marked_at.keys())),
        admit=admit,
    )


def retreat_steps(there: HandoverPods, marked: Iterable[str], replicas: int) -> HandoverSteps:
    """The steps while another template waits: pods that are not ready drain, and the old ones claim again.

    A pod whose worker has not registered is cordoned, too: it starts without claiming anything. For each pod that has
    been admitted the Deployment is about to remove a marked one: then the marked ones stay as they are.
    """
    unready = {name for name, pod in there.pods.items() if not is_ready(pod)}
    marks, going = set(marked), _going(there, marked, replicas)
    return HandoverSteps(
        uncordon=tuple(sorted(filter(there.cordoned, there.old - unready - going))),
        cordon=tuple(sorted(name for name in unready if not there.cordoned(name))),
        unmark=tuple(sorted(marks - going)),
    )


def _going(there: HandoverPods, marked: Iterable[str], replicas: int) -> set[str]:
    """The marked pods, when Kubernetes is about to remove one of them. Which one goes first is not known."""
    surplus = sum(map(there.counts, there.pods)) > replicas
    return set(marked) if surplus or any(len(one.names) > one.wanted for one in there.old_sets) else set()


class UnheardPods:
    """Ready pods without a heartbeat. Ready workers reach their Redis, so that after a while it is another one."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._looked_at = float("-inf")

    def elsewhere(
        self, names: Collection[str], pods: Mapping[str, Object], workers: Mapping[str, WorkerSample], now: float
    ) -> frozenset[str]:
        """Those of `names` that serve another Redis than the one in which `workers` were found at this look."""
        known = self._since if now - self._looked_at <= _GAP_SECONDS else {}
        unheard = [name for name in names if is_ready(pods[name]) and name in workers and not workers[name].registered]
        self._since, self._looked_at = {name: known.get(name, now) for name in unheard}, now
        return frozenset(name for name, at in self._since.items() if now - at >= _ELSEWHERE_SECONDS)


def empty_pods(there: HandoverPods, held: Container[str]) -> frozenset[str]:
    """The pods that run nothing and will claim nothing. `held` are those that were cordoned before this look."""
    return frozenset(
        name for name in there.pods if there.drained(name) or (name in held and not there.registered(name))
    )


def endangered_by_template(pods: Mapping[str, Object], empty: Container[str], *, unread: bool) -> list[str]:
    """The pods that another template would remove in the middle of a task: those that are not ready.

    While the heartbeats are `unread`, a pod whose worker answers no readiness probe counts as empty: it does not reach
    Redis either, or has never started.
    """
    return sorted(
        name
        for name, pod in pods.items()
        if has_gate(pod) and not is_ready(pod) and name not in empty and not (unread and not _answers(pod))
    )


def _answers(pod: Object) -> bool:
    statuses: Sequence[Object] = pod.get("status", {}).get("containerStatuses") or ()
    return any(one.get("name") == WORKER_CONTAINER and bool(one.get("ready")) for one in statuses)


def _removable(there: HandoverPods, settled: Container[str]) -> int:
    """How many pods the Deployment may remove now so that all of them are `settled`.

    It begins with the oldest ReplicaSet, and goes on to the next when that has none left.
    """
    total = 0
    for one in there.old_sets:
        going = sum(name in settled for name in one.names)
        total += going
        if going < one.number:
            break
    return total


def _admitted(there: HandoverPods, most: int) -> tuple[str, ...]:
    """The pods to admit, so that the Deployment has at most `most` available ones: old pods first, then new ones.

    An old one that is cordoned is not ready for good: the Deployment may have decided to remove it.
    """
    room = most - sum(map(there.counts, there.pods))
    waiting = [
        name
        for name in there.pods
        if not there.admitted(name) and there.registered(name) and not (name in there.old and there.cordoned(name))
    ]
    waiting.sort(key=lambda name: (name in there.new, -there.workers[name].age_seconds, name))
    return tuple(waiting[: max(0, room)])


def is_admitted(pod: Object) -> bool:
    """Whether its gate is open, or it has none."""
    if not has_gate(pod):
        return True
    conditions: Sequence[Object] = pod.get("status", {}).get("conditions") or ()
    return any(one.get("type") == ADMITTED and one.get("status") == "True" for one in conditions)


def has_gate(pod: Object) -> bool:
    """Whether the operator says when the pod, or a pod of this template, is ready."""
    gates: Sequence[Object] = pod.get("spec", {}).get("readinessGates") or ()
    return any(gate.get("conditionType") == ADMITTED for gate in gates)
