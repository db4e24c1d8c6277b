"""A queue in 1 to 12 partitions over a Redis Cluster. A figure is named `curve.partitions`.

On a machine with few cores the nodes share them, so the clock says little. How far the nodes could go is in their
processor time: with cores of their own, the busiest node is full first.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from bench.cluster import BenchCluster
from bench.scenarios.stage import Stage
from taskfleet.protocol.partitions import first_of
from taskfleet.redis.keys import of_partition

_PARTITIONS = (1, 3, 6, 12)

UNITS = {
    "enqueued_per_second": "1/s",
    "drained_per_second": "1/s",
    "producer_us": "µs",
    "worker_us": "µs",
    "redis_us": "µs",
    "busiest_us": "µs",
    "script_calls": "",
    "busiest_tasks": "%",
    "nodes": "",
}
"""The curves: rates; processor time per task of the producer, the worker, all nodes and the busiest node; calls of
scripts per task; the share of the tasks that the fullest node holds, and the number of nodes that hold any."""


def over_three_masters(stage: Stage) -> dict[str, float]:
    return _partitioned(stage, 3)


def over_six_masters(stage: Stage) -> dict[str, float]:
    return _partitioned(stage, 6)


def _partitioned(stage: Stage, masters: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    with BenchCluster(stage.server.program, masters) as cluster:
        for partitions in [number for number in _PARTITIONS if number <= stage.load.growth.partitions]:
            cluster.flush()
            with ExitStack() as stack:
                found = _once(replace(stage, stack=stack), cluster, partitions)
            figures |= {f"{curve}.{partitions}": value for curve, value in found.items()}
    return figures | {"tasks": float(stage.load.growth.partitioned)}


def _once(stage: Stage, cluster: BenchCluster, partitions: int) -> dict[str, float]:
    """One producer enqueues the tasks one at a time, then one worker drains them."""
    tasks = stage.load.growth.partitioned
    settings = {"url": cluster.url, "BENCH_PARTITIONS": str(partitions)}
    producer, worker = stage.child("producer", **settings), stage.child("worker", **settings)
    stage.warm(producer, worker)
    before, sent = cluster.usage(), producer.cpu_seconds() or 0.0
    filling = stage.fill(producer, tasks)
    sent = (producer.cpu_seconds() or 0.0) - sent
    held, worked = _tasks_held(cluster, partitions), worker.cpu_seconds() or 0.0
    draining = stage.drain(worker, tasks)
    worked = (worker.cpu_seconds() or 0.0) - worked
    after = cluster.usage()
    spent = [now.cpu_seconds - then.cpu_seconds for now, then in zip(after, before, strict=True)]
    calls = sum(now.calls - then.calls for now, then in zip(after, before, strict=True))
    return {
        "enqueued_per_second": tasks / filling,
        "drained_per_second": tasks / draining,
        "producer_us": sent / tasks * 1e6,
        "worker_us": worked / tasks * 1e6,
        "redis_us": sum(spent) / tasks * 1e6,
        "busiest_us": max(spent) / tasks * 1e6,
        "script_calls": calls / tasks,
        "busiest_tasks": max(held) / sum(held) * 100,
        "nodes": sum(1 for count in held if count),
    }


def _tasks_held(cluster: BenchCluster, partitions: int) -> list[int]:
    """How many waiting tasks each node holds."""
    held = dict.fromkeys(range(len(cluster.nodes)), 0)
    for partition in first_of("default", partitions):
        ready = of_partition("taskfleet", partition).ready
        node = cluster.holder_of(ready)
        held[cluster.nodes.index(node)] += int(node.call("LLEN", ready))
    return list(held.values())
