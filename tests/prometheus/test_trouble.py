"""A fleet in trouble of every kind, and the alert of each. Only the waits of the rules are left out."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet import TaskQueue
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.settings import RedisSettings, Settings
from tests.prometheus.expressions import alerts
from tests.prometheus.server import PrometheusServer
from tests.prometheus.test_live import scrapes
from tests.support.ports import free_port
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until
from tests.support.redis_server import RedisServer


@pytest.fixture
def fleet(crd: None, kubectl: ClusterCommand, namespace: str) -> Any:
    """A fleet with a Redis of its own, which gets into trouble too."""
    with RedisServer() as server:
        yield RealFleet(kubectl, namespace, server)


class Trouble:
    """The alerts that fire now, and all that have."""

    def __init__(self, server: PrometheusServer) -> None:
        self._server = server
        self.seen: set[str] = set()

    def firing(self) -> dict[str, dict[str, str]]:
        found = {
            one["labels"]["alertname"]: one["labels"]
            for one in self._server.get("alerts")["alerts"]
            if one["state"] == "firing"
        }
        self.seen |= found.keys()
        return found

    def wait(self, alert: str, /, **labels: str) -> None:
        found = until(lambda: self.firing().get(alert), f"{alert} fires", seconds=90)
        assert labels.items() <= found.items()

    def ends(self, name: str) -> None:
        until(lambda: name not in self.firing(), f"{name} ends", seconds=90)


def on(fleet: RealFleet, do: Callable[[TaskQueue], Any]) -> Any:
    """`await do(queue)` on the queues of the fleet."""

    async def run() -> Any:
        settings = Settings(redis=RedisSettings(url=fleet.redis.url, key_prefix=fleet.prefix))
        async with TaskQueue(settings=settings) as queue:
            return await do(queue)

    return asyncio.run(run())


@pytest.mark.timeout(900)
def test_every_alert_fires_for_a_fleet_in_that_trouble_and_ends(
    fleet: RealFleet,
    nodes: ProcessNodes,
    operators: OperatorProcesses,
    prometheus: Callable[..., PrometheusServer],
    impatient: Path,
) -> None:
    redis: Any = fleet.redis
    metrics = free_port()
    operators.start("--metrics-port", str(metrics))
    fleet.apply(
        queues=[{"name": "default", "leaseSeconds": 3, "targetLatencySeconds": 1}],
        worker={"processes": 2, "concurrency": 1},
        autoscaler={"minReplicas": 1, "maxReplicas": 1},
    )
    pod = next(iter(until(fleet.ready, "a pod is ready")))
    labels = {"namespace": fleet.namespace, "pod": pod, "taskqueue": fleet.name}
    trouble = Trouble(prometheus(scrapes(metrics, {f"127.0.0.1:{nodes.port(pod)}": labels}), (impatient,)))
    who = {"namespace": fleet.namespace, "name": fleet.name}
    trouble.ends("TaskfleetOperatorWithoutLeader")

    fleet.enqueue(range(60), seconds=1.0)
    trouble.wait("TaskfleetAutoscalerLimited", **who, rule="TooManyReplicas")
    trouble.wait("TaskfleetOldestTaskOverTarget", **who, queue="default")

    workers = on(fleet, lambda queue: queue.workers())
    os.kill(workers[0].pid, signal.SIGKILL)
    trouble.wait("TaskfleetLeaseTakeovers", namespace=fleet.namespace, taskqueue=fleet.name, queue="default")
    on(fleet, lambda queue: queue.purge("default"))
    trouble.ends("TaskfleetOldestTaskOverTarget")
    trouble.ends("TaskfleetAutoscalerLimited")

    on(fleet, _unknown_tasks)
    trouble.wait("TaskfleetDeadLettersGrowing", **who, queue="default")
    trouble.wait("TaskfleetFailureRateHigh", **who, queue="default")

    on(fleet, lambda queue: _odd_heartbeat(queue, pod))
    trouble.wait("TaskfleetStuckSlots", **who)
    trouble.wait("TaskfleetWorkerClockSkew", **who)

    fleet("annotate", "tq", fleet.name, "autoscaling.taskfleet.io/paused=true")
    trouble.wait("TaskfleetAutoscalerHeld", **who, why="Paused")
    fleet("annotate", "tq", fleet.name, "autoscaling.taskfleet.io/paused-")
    trouble.ends("TaskfleetAutoscalerHeld")

    fleet.apply(suspend=True)  # type: ignore[arg-type]
    until(lambda: not on(fleet, lambda queue: queue.workers()), "no worker is left")
    fleet.enqueue([1000], seconds=0.1)
    trouble.wait("TaskfleetNoWorker", **who, queue="default")
    fleet.apply(suspend=False)  # type: ignore[arg-type]
    trouble.ends("TaskfleetNoWorker")

    # So much that what connections and scripts take meanwhile, and give back, is no share of it.
    redis.call("SETRANGE", "padding", 100_000_000, "x")  # which no buffer of a client has held
    used = int(redis.info("memory")["used_memory"])
    redis.call("CONFIG", "SET", "maxmemory", int(used / 0.93))
    trouble.wait("TaskfleetRedisNearlyFull", server=f"127.0.0.1:{redis.port}")
    redis.call("CONFIG", "SET", "maxmemory", 0)
    trouble.ends("TaskfleetRedisNearlyFull")

    redis.pause()
    try:
        trouble.wait("TaskfleetRedisUnreachable", redis=f"127.0.0.1:{redis.port}")
    finally:
        redis.go_on()
    trouble.ends("TaskfleetRedisUnreachable")

    operators.kill()
    trouble.wait("TaskfleetOperatorWithoutLeader")
    operators.start("--metrics-port", str(metrics))
    trouble.ends("TaskfleetOperatorWithoutLeader")
    assert trouble.seen == alerts().keys()


async def _unknown_tasks(queue: TaskQueue) -> None:
    """Tasks that no worker knows: they fail for good."""

    @queue.task(name="nonsense")
    async def nonsense(number: int) -> None: ...

    for number in range(40):
        await nonsense.enqueue(number)
        await asyncio.sleep(0.1)  # over several scrapes, as a rate needs it


async def _odd_heartbeat(queue: TaskQueue, pod: str) -> None:
    """A process of the pod with a slot that is stuck, and a clock that is a minute ahead."""
    now = int(time.time() * 1000)
    beat = HeartbeatFields(
        name=pod, pid=1, slots=1, busy=1, queues="default", state="running", started_ms=now, idle_since_ms=0,
        version="0", stuck=1, clock_ms=now + 60_000,
    )  # fmt: skip
    renewer = queue.broker.renewer()

    def tell() -> None:
        renewer.heartbeat(f"{pod}/7", pod, 30_000, beat)
        renewer.close()

    await asyncio.to_thread(tell)
