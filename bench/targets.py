"""The targets that the figures of a run are compared with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.curves import point_of
from bench.features.cases import FEATURES
from bench.figures import Figure, number

OURS = "taskfleet"


@dataclass(frozen=True, slots=True)
class Target:
    """One target: the requirement, the measured figure, and whether it is met."""

    what: str
    target: str
    measured: str
    met: bool


class Measured:
    """The medians of a run, and the names of its queues."""

    def __init__(self, figures: Sequence[Figure], python_peers: Sequence[str]) -> None:
        self._medians = {(f.scenario, f.metric, f.peer): f.median for f in figures}
        self._python = [name for name in python_peers if name != OURS]

    def get(self, scenario: str, metric: str, peer: str = OURS) -> float | None:
        return self._medians.get((scenario, metric, peer))

    def curve(self, scenario: str, curve: str) -> list[tuple[int, float]]:
        """(size, figure) of a curve of ours, the smallest size first."""
        found: list[tuple[int, float]] = []
        for (of_scenario, metric, peer), value in self._medians.items():
            if of_scenario == scenario and peer == OURS and (point := point_of(metric)) and point[0] == curve:
                found.append((point[1], value))
        return sorted(found)

    def others(self, scenario: str, metric: str) -> Mapping[str, float]:
        return {
            peer: value
            for (of_scenario, of_metric, peer), value in self._medians.items()
            if (of_scenario, of_metric) == (scenario, metric) and peer != OURS
        }

    def best_python(self, scenario: str, metric: str) -> str | None:
        rates = {peer: rate for peer, rate in self.others(scenario, metric).items() if peer in self._python}
        return max(rates, key=lambda peer: rates[peer], default=None)


_Rule = Callable[[Measured], Target | None]


def verdicts(figures: Sequence[Figure], python_peers: Sequence[str]) -> list[Target]:
    """Every target that the run has the figures for. `python_peers` are the Python queues, Taskfleet included."""
    measured = Measured(figures, python_peers)
    return [verdict for rule in _RULES if (verdict := rule(measured)) is not None]


def _times(what: str, scenario: str, peer: str, factor: float) -> _Rule:
    """At least `factor` times the rate of a peer; without a name, of the best Python queue."""

    def rule(measured: Measured) -> Target | None:
        rival = peer or measured.best_python(scenario, "tasks_per_second")
        if rival is None:
            return None
        ours = measured.get(scenario, "tasks_per_second")
        theirs = measured.get(scenario, "tasks_per_second", rival)
        if ours is None or theirs is None:
            return None
        named = rival if peer else f"{rival}, the best Python peer"
        return Target(what, f"≥ {factor:g} times {named}", f"{number(ours / theirs)} times", ours >= factor * theirs)

    return rule


def _at_most(what: str, scenario: str, metric: str, limit: float, unit: str) -> _Rule:
    return _limit(what, scenario, metric, limit, unit, "≤", operator.le)


def _at_least(what: str, scenario: str, metric: str, limit: float, unit: str) -> _Rule:
    return _limit(what, scenario, metric, limit, unit, "≥", operator.ge)


def _limit(
    what: str,
    scenario: str,
    metric: str,
    limit: float,
    unit: str,
    sign: str,
    holds: Callable[[float, float], bool],
) -> _Rule:
    def rule(measured: Measured) -> Target | None:
        value = measured.get(scenario, metric)
        if value is None:
            return None
        return Target(what, f"{sign} {limit:g}{unit}", f"{number(value)}{unit}", holds(value, limit))

    return rule


def _ahead(what: str, metric: str) -> _Rule:
    def rule(measured: Measured) -> Target | None:
        ours, theirs = measured.get("latency", metric), measured.others("latency", metric)
        if ours is None or not theirs:
            return None
        best = min(theirs, key=lambda peer: theirs[peer])
        text = f"{number(ours)} ms; {best} {number(theirs[best])} ms"
        return Target(what, "less than every peer's", text, ours < theirs[best])

    return rule


def _recovery(measured: Measured) -> Target | None:
    took, lease = measured.get("kill9", "recovery"), measured.get("kill9", "lease")
    if took is None or lease is None:
        return None
    limit = lease + 2
    return Target(
        "kill -9: all its tasks run again", f"≤ lease + 2 s = {limit:g} s", f"{number(took)} s", took <= limit
    )


def _features(measured: Measured) -> Target | None:
    """Processor time of a task with a feature, in worker and Redis together."""
    costs: dict[str, float] = {}
    for name in FEATURES:
        parts = [measured.get("features", f"{name}.{column}") for column in ("worker_us", "redis_us")]
        if None in parts:
            return None
        costs[name] = sum(part for part in parts if part is not None)
    over = {FEATURES[name].title: cost / costs["plain"] for name, cost in costs.items() if cost > 3 * costs["plain"]}
    told = ", ".join(f"{title} {number(times)}" for title, times in sorted(over.items(), key=lambda item: -item[1]))
    return Target("each feature", "≤ 3 times a plain task", told or "all of them", not over)


def _flat(what: str, scenario: str, curve: str, limit: float) -> _Rule:
    """The figure of a curve at the largest size is at most so many times that at the smallest."""

    def rule(measured: Measured) -> Target | None:
        points = measured.curve(scenario, curve)
        if len(points) < 2:
            return None
        (first, before), (last, after) = points[0], points[-1]
        text = f"{number(after / before)} times" if before else "no first figure"
        return Target(f"{what}, {last:,} / {first:,}", f"≤ {limit:g} times", text, after <= limit * before)

    return rule


_GROWTH: tuple[_Rule, ...] = (
    _flat("a claim, by waiting tasks", "grow_waiting", "claim_p50", 1.5),
    _flat("a claim, by delayed tasks", "grow_delayed", "claim_p50", 1.5),
    _flat("a claim, by members of a group", "grow_members", "claim_p50", 1.5),
    _flat("a claim, by fair keys", "grow_fair", "claim_p50", 1.5),
    _flat("a claim, by limit keys", "grow_limit", "claim_p50", 1.5),
    _flat("bytes of a waiting task", "grow_waiting", "bytes_each", 1.5),
    _flat("bytes of a delayed task", "grow_delayed", "bytes_each", 1.5),
    _flat("bytes of a member of a group", "grow_members", "bytes_each", 1.5),
    _flat("bytes of a fair key with its task", "grow_fair", "bytes_each", 1.5),
    _flat("bytes of a limit key with its task", "grow_limit", "bytes_each", 1.5),
    _flat("commands of an idle worker, by workers", "grow_workers", "commands_per_worker", 1.1),
    _flat("Redis for a look at a worker", "grow_workers", "look_per_worker", 1.1),
    _flat("Redis for a look at a queue", "grow_queues", "look_per_queue", 1.1),
)
"""Nothing costs more where there is more of it. Hash tables double, so the bytes of one entry vary by a half."""

_RULES: tuple[_Rule, ...] = (
    _times("drain, 1 process", "drain", "bullmq", 4),
    _times("drain, 1 process", "drain", "asynq", 6),
    _times("drain, 1 process", "drain", "", 15),
    _times("enqueue, one at a time, 50 producers", "enqueue", "asynq", 1),
    _times("enqueue, bulk", "enqueue_bulk", "bullmq", 6),
    _times("enqueue, bulk", "enqueue_bulk", "rust-task-queue", 1),
    _at_least("drain, of the bare pattern", "ceiling", "of_bare", 60, " %"),
    _at_most("pick-up latency when idle, p50", "latency", "p50", 0.5, " ms"),
    _at_most("pick-up latency when idle, p99", "latency", "p99", 1, " ms"),
    _ahead("pick-up latency when idle, p50", "p50"),
    _ahead("pick-up latency when idle, p99", "p99"),
    _at_most("from enqueue to result when idle, p50", "result", "p50", 1.5, " ms"),
    _at_least("drain at 2 ms round trip, of that without", "drain_rtt", "kept", 80, " %"),
    _at_most("round trips per task", "commands", "round_trips_per_task", 0.1, ""),
    _at_most("commands inside scripts per task", "commands", "commands_per_task", 12, ""),
    _at_most("bytes per waiting small task", "memory", "bytes_per_waiting_task", 200, ""),
    _recovery,
    _at_most("kill -9: lost tasks", "kill9", "lost", 0, ""),
    _at_most("kill -9: duplicates that it did not hold", "kill9", "strays", 0, ""),
    _at_most("claim latency p99, 1,000,000 waiting / 1,000", "million", "claim_p99_ratio", 2, " times"),
    _at_most("longest call of any size, in Redis", "holding", "longest", 20, " ms"),
    _at_most("longest call of any feature, in Redis", "features", "longest", 20, " ms"),
    _at_most("longest call of a chaos run, in Redis", "chaos", "slowest_call", 20, " ms"),
    _features,
    _at_most("memory of an idle worker", "footprint", "worker_mb", 40, " MB"),
    _at_most("memory of an idle worker with four processes", "footprint", "workers_mb", 100, " MB"),
    _at_most("memory of an idle operator", "footprint", "operator_mb", 80, " MB"),
    *_GROWTH,
)
