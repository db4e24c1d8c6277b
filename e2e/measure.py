"""Measurements on the test cluster: `python -m e2e.measure NAME`. docs/operations.md has their results.

They share the machine with nothing. The chart is installed, and removed at the end; the cluster stays.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tests.controlplane.measure_many import Watch, load, percentiles
from tests.support.process_node_fleet import until

from e2e.cluster import binaries, kind_cluster, product_images
from e2e.cluster.kubectl import ClusterCommand
from e2e.operator_release import OperatorRelease
from e2e.pod_fleet import PodFleet, namespace_of_a_test, redis_in_the_cluster
from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi

_LOOK_SECONDS = 0.01
_TRIAL_SECONDS = 120


def zero_to_one(fleet: PodFleet, trials: int) -> Iterator[str]:
    """From the enqueueing of the first task, with no pod, to the new number and to the start of the task."""
    down = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    fleet.apply(autoscaler={"cooldownSeconds": 0, "behavior": down})
    until(lambda: fleet.condition("ScalingActive") and fleet.replicas() == 0, "it is decided upon")
    patched: list[float] = []
    started: list[float] = []
    for number in range(trials):
        until(lambda: fleet.replicas() == 0 and not _all_pods(fleet), "it is back at zero")
        replicas, start = asyncio.run(_trial(fleet, number))
        patched.append(replicas)
        started.append(start)
        yield f"trial {number + 1}: replicas after {replicas:.3f} s, the task started after {start:.2f} s ({load()})"
        until(lambda number=number: number in fleet.journal("end"), "the task has ended")
    fleet.ran_once(range(trials))
    yield f"enqueue → replicas, {trials} trials: {percentiles(patched)}"
    yield f"enqueue → start of the first task, {trials} trials: {percentiles(started)}"


def _all_pods(fleet: PodFleet) -> str:
    """Also those that are being deleted."""
    return fleet("get", "pods", "-o", "name")


async def _trial(fleet: PodFleet, number: int) -> tuple[float, float]:
    settings = Settings(redis=RedisSettings(url=fleet.redis.url, key_prefix=fleet.prefix))
    api = await KubernetesApi.connect(str(fleet.kubectl.kubeconfig))
    watch = Watch(api, fleet.namespace)
    try:
        async with TaskQueue(settings=settings) as queue, asyncio.timeout(_TRIAL_SECONDS):

            @queue.task(name="work")
            async def work(number: int, seconds: float) -> int: ...

            await queue.queue_stats("default")  # the connection is there
            await watch.start()
            began = time.monotonic()
            await work.enqueue(number, 0.0)
            await watch.shows(lambda replicas: replicas >= 1)
            replicas = watch.at - began
            await asyncio.to_thread(
                until, lambda: number in fleet.journal("start"), "the task has started", pause=_LOOK_SECONDS
            )
            return replicas, time.monotonic() - began
    finally:
        await watch.close()
        await api.close()


MEASURES: dict[str, Callable[[PodFleet, int], Iterator[str]]] = {"zero-to-one": zero_to_one}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.measure", description=__doc__)
    parser.add_argument("name", choices=MEASURES)
    parser.add_argument("--trials", type=int, default=20)
    asked = parser.parse_args()
    kubeconfig = kind_cluster.up()
    kind_cluster.load(*product_images.build())
    kubectl, helm = (ClusterCommand(path, kubeconfig) for path in binaries.ensure("kubectl", "helm").values())
    with ExitStack() as stack:
        operator = OperatorRelease(kubectl, helm)
        stack.callback(operator.uninstall)
        operator.install()
        redis = stack.enter_context(redis_in_the_cluster(kubectl))
        namespace = stack.enter_context(namespace_of_a_test(kubectl))
        fleet = PodFleet(kubectl, namespace, redis, "measured")
        for line in MEASURES[asked.name](fleet, asked.trials):
            print(line, flush=True)


if __name__ == "__main__":
    main()
