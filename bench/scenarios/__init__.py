"""The scenarios. A run plays one peer once, on a server of its own, and returns metric → value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.scenarios import (
    chaos,
    crash,
    features,
    fleets,
    footprint,
    growth,
    holding,
    partitions,
    pythons,
    throughput,
    timing,
)
from bench.scenarios.stage import Growth, Load, Stage

__all__ = ["SCENARIOS", "UNITS", "Growth", "Load", "Run", "Scenario", "Stage", "place_of", "played_together", "unit_of"]

Run = Callable[[Stage], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A name for some of the metrics of a run; `only` empty is all of them."""

    run: Run
    only: tuple[str, ...] = ()

    def takes(self, metric: str) -> bool:
        return not self.only or metric in self.only


SCENARIOS: dict[str, Scenario] = {
    # Three views of one run.
    "drain": Scenario(
        throughput.drain, ("tasks_per_second", "worker_cpu_us_per_task", "redis_cpu_us_per_task", "tasks")
    ),
    "commands": Scenario(
        throughput.drain, ("round_trips_per_task", "script_calls_per_task", "commands_per_task", "tasks")
    ),
    "memory": Scenario(
        throughput.drain, ("bytes_per_waiting_task", "worker_idle_mb", "worker_after_drain_mb", "tasks")
    ),
    "footprint": Scenario(footprint.footprint),
    "enqueue": Scenario(throughput.enqueue),
    "enqueue_bulk": Scenario(throughput.enqueue_bulk),
    "latency": Scenario(timing.latency),
    "result": Scenario(timing.result),
    "drain_rtt": Scenario(throughput.drain_rtt),
    "processes": Scenario(throughput.processes),
    "sleep": Scenario(throughput.sleep),
    "delayed": Scenario(timing.delayed),
    "fairness": Scenario(timing.fairness),
    "kill9": Scenario(crash.kill9),
    "million": Scenario(timing.million),
    "ceiling": Scenario(throughput.ceiling),
    "hop": Scenario(timing.hop),
    "holding": Scenario(holding.holding),
    "chaos": Scenario(chaos.chaos),
    "features": Scenario(features.features),
    "pythons": Scenario(pythons.pythons),
    "grow_waiting": Scenario(growth.waiting),
    "grow_delayed": Scenario(growth.delayed),
    "grow_members": Scenario(growth.members),
    "grow_fair": Scenario(growth.fair_keys),
    "grow_limit": Scenario(growth.limit_keys),
    "grow_workers": Scenario(fleets.workers),
    "grow_queues": Scenario(fleets.queues),
    "grow_cluster_3": Scenario(partitions.over_three_masters),
    "grow_cluster_6": Scenario(partitions.over_six_masters),
}

# In the order in which the table has them. `tasks`, how many the figures come from, is a column there.
UNITS = {
    "tasks_per_second": "tasks/s",
    "tasks_per_second_without": "tasks/s",
    "bare_tasks_per_second": "tasks/s",
    "tasks_per_second_fifo": "tasks/s",
    "tasks_per_second_fair": "tasks/s",
    "kept": "%",
    "of_bare": "%",
    "largest_share": "%",
    "slots_used": "%",
    "round_trip": "ms",
    "proxy_cpu": "%",
    "worker_cpu_us_per_task": "µs",
    "producer_cpu_us_per_task": "µs",
    "redis_cpu_us_per_task": "µs",
    "round_trips_per_task": "round trips",
    "script_calls_per_task": "calls",
    "commands_per_task": "commands",
    "bytes_per_waiting_task": "bytes",
    "worker_idle_mb": "MB",
    "worker_after_drain_mb": "MB",
    **footprint.UNITS,
    "p50": "ms",
    "p99": "ms",
    "max": "ms",
    "earliest": "ms",
    "small_p99_fifo": "ms",
    "small_p99_fair": "ms",
    "recovery": "s",
    "lease": "s",
    "held": "tasks",
    "lost": "tasks",
    "duplicates": "tasks",
    "strays": "tasks",
    "claim_p50_few": "µs",
    "claim_p50_many": "µs",
    "claim_p99_few": "µs",
    "claim_p99_many": "µs",
    "claim_p99_ratio": "times",
    **dict.fromkeys(
        (
            "claim_large",
            "chord",
            "dependants",
            "enqueue",
            "purge",
            "fail",
            "requeue",
            "due",
            "leases",
            "views",
            "plain_hdel",
            "longest",
        ),
        "ms",
    ),
    **chaos.UNITS,
    **features.UNITS,
    **pythons.UNITS,
    **growth.UNITS,
    **fleets.UNITS,
    **partitions.UNITS,
    "tasks": "tasks",
}


def unit_of(metric: str) -> str:
    """The unit of a metric. A point of a curve is named `curve.size`, and has the unit of its curve."""
    return UNITS.get(metric) or UNITS[metric.partition(".")[0]]


def place_of(metric: str) -> tuple[int, int]:
    """Where a metric comes among all, and a point of a curve on its curve."""
    name, _, size = (metric, "", "0") if metric in UNITS else metric.partition(".")
    return list(UNITS).index(name), int(size)


def played_together(names: Sequence[str]) -> list[tuple[Run, list[str]]]:
    """The runs that these scenarios need, each once, with the names it serves; in the order of the names."""
    together: dict[Run, list[str]] = {}
    for name in names:
        together.setdefault(SCENARIOS[name].run, []).append(name)
    return list(together.items())
