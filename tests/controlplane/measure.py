"""The long forms of the tests with real workers: `python -m tests.controlplane.measure NAME`, a table row for each run.

They take minutes and share the machine with nothing. docs/operations.md has their results.
"""

from __future__ import annotations

import argparse
import itertools
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.kubectl import ClusterCommand, wait_until

from tests.controlplane import measure_many, measure_writes
from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until
from tests.support.redis_server import RedisServer

CRD = Path(__file__).parents[2] / "crds" / "taskqueue.yaml"


@dataclass(frozen=True)
class Stage:
    """One namespace with a Redis, a node, an operator that runs, and a TaskQueue that is not applied yet."""

    redis: RedisServer
    nodes: ProcessNodes
    operators: OperatorProcesses
    fleet: RealFleet


@contextmanager
def stage(kubectl: ClusterCommand, kubeconfig: Path) -> Iterator[Stage]:
    namespace = f"measure-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    wait_until(kubectl, "get", "serviceaccount", "default", "--namespace", namespace)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(RedisServer())
        nodes = stack.enter_context(ProcessNodes(kubeconfig, namespace, [f"node-{namespace}"]))
        operators = stack.enter_context(OperatorProcesses(kubeconfig, namespace, folder))
        operators.start()
        yield Stage(redis, nodes, operators, RealFleet(kubectl, namespace, redis))


def busy_pods(given: Stage, repeats: int) -> Iterator[str]:
    """Of 20 pods 5 are busy with tasks of 60 s, and 5 are asked for: the busy ones remain."""
    fleet = given.fleet
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=20)
    for n in range(repeats):
        fleet("scale", f"tq/{fleet.name}", "--replicas=20")
        until(lambda: len(fleet.ready()) == 20, "twenty pods are ready", seconds=180)
        tasks = range(5 * n, 5 * n + 5)
        fleet.enqueue(tasks, seconds=60)
        busy = until(lambda: len(found := fleet.busy()) == 5 and found, "five of them are busy")
        began = time.monotonic()
        fleet("scale", f"tq/{fleet.name}", "--replicas=5")
        until(lambda: len(fleet.pods()) == 5, "five pods remain", seconds=90)
        took = time.monotonic() - began
        remained = fleet.pods().keys() == busy
        until(lambda tasks=tasks: tasks[-1] in fleet.journal("end"), "the tasks have ended", seconds=120)
        until(lambda n=n: len(fleet.journal("end")) == 5 * n + 5, "the tasks have ended", seconds=120)
        fleet.ran_once(range(5 * n + 5))
        kept = remained and fleet.pods().keys() == busy
        words = "exactly the five busy ones" if kept else "OTHERS THAN THE BUSY ONES"
        yield f"repeat {n + 1}: after {took:.1f} s {words} remained; each task ran once"


def lost_redis(given: Stage, repeats: int) -> Iterator[str]:
    """Redis stands still for 60 s under load."""
    fleet, redis = given.fleet, given.redis
    fleet.apply(redis={"commandTimeoutSeconds": 1}, autoscaler={"minReplicas": 1, "maxReplicas": 4})
    for n in range(repeats):
        last = 400 * (n + 1)
        fleet.enqueue(range(last - 400, last), seconds=0.5)
        until(lambda: len(fleet.ready()) == 4, "four pods work", seconds=400)
        redis.pause()
        lost = time.monotonic()
        until(lambda: fleet.condition("RedisReachable").get("status") == "False", "the status says so")
        told = time.monotonic() - lost
        seen = {fleet.replicas()}
        while time.monotonic() < lost + 60:
            seen.add(fleet.replicas())
            time.sleep(0.5)
        reason = fleet.condition("ScalingActive")["reason"]
        redis.go_on()
        back = time.monotonic()
        until(lambda: fleet.condition("RedisReachable").get("status") == "True", "it has recovered")
        recovered = time.monotonic() - back
        until(lambda last=last: len(fleet.journal("end")) == last, "all tasks have ended", seconds=180)
        yield (
            f"repeat {n + 1}: told after {told:.1f} s (ScalingActive {reason}), replicas {sorted(seen)} for 60 s, "
            f"recovered after {recovered:.1f} s; all 400 tasks ended"
        )


def empty_redis(given: Stage, repeats: int) -> Iterator[str]:
    """Redis is back, and empty, with the default down window of 120 s."""
    fleet = given.fleet
    fleet.apply(autoscaler={"maxReplicas": 3, "cooldownSeconds": 0})
    for n in range(repeats):
        fleet.enqueue(range(30 * n, 30 * n + 30), seconds=1)
        until(lambda: len(fleet.ready()) == 3, "three pods work", seconds=400)
        given.redis.call("FLUSHALL")
        emptied = time.monotonic()
        until(lambda: fleet.replicas() < 3, "it scales down in the end", seconds=400)
        yield f"repeat {n + 1}: the first scale-down came {time.monotonic() - emptied:.0f} s after Redis was empty"
        until(lambda: fleet.replicas() == 0, "it is at zero", seconds=400)


def burst(given: Stage, repeats: int) -> Iterator[str]:
    """10,000 tasks of 0.5 s at once, 64 slots a pod, at most 8 pods."""
    fleet = given.fleet
    fleet.apply(worker={"concurrency": 64}, autoscaler={"maxReplicas": 8, "cooldownSeconds": 10})
    until(lambda: fleet.replicas() == 0, "the Deployment is there")
    for n in range(repeats):
        before = len(fleet.replica_changes())
        began = time.monotonic()
        fleet.enqueue(range(10_000 * n, 10_000 * n + 10_000), seconds=0.5)
        asked = {0: began}  # number → when it was seen first

        def done(n: int = n, asked: dict[int, float] = asked) -> bool:
            asked.setdefault(fleet.replicas(), time.monotonic())
            return bool(fleet.redis.call("LLEN", f"journal:{fleet.prefix}") >= 20_000 * (n + 1))

        until(done, "all tasks have ended", seconds=600)
        took, most = time.monotonic() - began, max(asked)
        enough = f"{most} asked for after {asked[most] - began:.1f} s"
        until(lambda: fleet.replicas() == 0, "it is at zero", seconds=600)
        numbers = [0, *fleet.replica_changes()[before:]]
        directions = [after > earlier for earlier, after in itertools.pairwise(numbers)]
        reversals = sum(one != other for one, other in itertools.pairwise(directions))
        path = " → ".join(map(str, numbers))
        yield f"repeat {n + 1}: {enough}, done after {took:.0f} s; replicas {path}: {reversals} reversal(s)"
    fleet.ran_once(range(10_000 * repeats))


def killed(given: Stage, repeats: int) -> Iterator[str]:
    """The only operator is killed with SIGKILL while it scales up, and started again."""
    fleet, operators = given.fleet, given.operators
    target = {"backlogPerReplica": 10, "drainSeconds": 10}
    fleet.apply(autoscaler={"maxReplicas": 6, "cooldownSeconds": 5, "target": target})
    until(lambda: fleet.replicas() == 0, "the Deployment is there")
    for n in range(repeats):
        before = len(fleet.replica_changes())
        fleet.enqueue(range(60 * n, 60 * n + 60), seconds=0.5)
        until(lambda: fleet.replicas() > 1, "it scales up", seconds=400)
        operators.kill()
        at, began = fleet.replicas(), time.monotonic()
        operators.start()
        until(lambda n=n: len(fleet.journal("end")) == 60 * (n + 1), "all tasks have ended", seconds=180)
        numbers = fleet.replica_changes()[before:]
        took = time.monotonic() - began
        lowest = min(numbers[: numbers.index(max(numbers)) + 1])
        yield f"repeat {n + 1}: killed at {at} replicas; then {numbers}, never under {lowest}; done {took:.0f} s later"
        until(lambda: fleet.replicas() == 0, "it is at zero", seconds=400)
    fleet.ran_once(range(60 * repeats))


MEASURES: dict[str, Callable[[Stage, int], Iterator[str]]] = {
    "busy-pods": busy_pods,
    "lost-redis": lost_redis,
    "empty-redis": empty_redis,
    "burst": burst,
    "killed": killed,
}

MEASURES_OF_MANY: dict[str, Callable[[ClusterCommand, Path, argparse.Namespace], Iterator[str]]] = {
    "zero-to-one": lambda kubectl, config, asked: measure_many.zero_to_one(kubectl, config, asked.trials, asked.others),
    "many": lambda kubectl, config, asked: measure_many.many(kubectl, config, asked.minutes, asked.count or 1000),
    "writes": lambda kubectl, config, asked: measure_writes.writes(kubectl, config, asked.minutes),
    "storm": lambda kubectl, config, asked: measure_writes.storm(kubectl, config, asked.count or 50),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.controlplane.measure", description=__doc__)
    parser.add_argument("name", choices=[*MEASURES, *MEASURES_OF_MANY])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trials", type=int, default=100, help="of zero-to-one")
    parser.add_argument("--others", type=int, default=500, help="TaskQueues beside that of zero-to-one")
    parser.add_argument("--count", type=int, default=0, help="TaskQueues of many and storm")
    parser.add_argument("--minutes", type=float, default=10.0, help="of many and writes")
    asked = parser.parse_args()
    with ControlPlane() as plane:
        kubectl = plane.kubectl()
        kubectl("apply", "--server-side", "-f", str(CRD))
        wait_until(kubectl, "wait", "--for=condition=Established", "crd/taskqueues.taskfleet.io", "--timeout=30s")
        if (measure := MEASURES_OF_MANY.get(asked.name)) is not None:
            for line in measure(kubectl, plane.kubeconfig, asked):
                print(line, flush=True)
            return
        with stage(kubectl, plane.kubeconfig) as given:
            for line in MEASURES[asked.name](given, asked.repeats):
                print(line, flush=True)


if __name__ == "__main__":
    main()
