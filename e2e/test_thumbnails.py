"""The example application on a real cluster: the chart, the operator, Redis and 2,000 thumbnails."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e import evidence, pod_fleet
from e2e.cluster import engine
from e2e.cluster.kind_cluster import NAME as CLUSTER_NAME
from e2e.cluster.kubectl import ClusterCommand, CommandError
from e2e.conftest import FAILED, KubernetesCluster
from e2e.operator_release import RESTRICTED, OperatorRelease

REPOSITORY = Path(__file__).parents[1]
EXAMPLE = REPOSITORY / "examples" / "thumbnails"
TASKS = 2000
# The kinds that a user of the queue, the operator and its owner references may create in the namespace.
KINDS = "deployments,replicasets,pods,services,endpointslices,configmaps,serviceaccounts,pdb,secrets,leases,tq"

SECURITY = {
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
}
CONTAINER = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}


@dataclass(frozen=True)
class Shop:
    """A namespace with a Redis and the example's TaskQueue in it."""

    kubectl: ClusterCommand
    operator: str
    namespace: str

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return self.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        return self.kubectl.json("get", *arguments, "--namespace", self.namespace)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def queue(self) -> dict[str, Any]:
        """The TaskQueue; its status may still be empty."""
        return {"status": {}} | self.get("tq", "thumbnails")

    def replicas(self) -> int:
        return int(self.queue()["status"].get("replicas") or 0)

    def pods(self) -> list[dict[str, Any]]:
        """The workers that run and are not on their way out."""
        found = self.get("pods", "-l", self.queue()["status"]["selector"])["items"]
        return [
            pod
            for pod in found
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]  # fmt: skip

    def figures(self) -> dict[str, Any]:
        """The queue's counters in Redis, by the product's own command."""
        printed = self.kubectl(
            "exec", "deployment/taskfleet", "--namespace", self.operator, "--",
            "env", f"REDIS_URL=redis://redis.{self.namespace}.svc:6379/0", "taskfleet", "queues", "--json",
        )  # fmt: skip
        figures: dict[str, Any] = {each["name"]: each for each in json.loads(printed)["items"]}["default"]
        return figures

    def names(self) -> set[str]:
        """Everything in the namespace that is not of the sender's Job."""
        listed = self.run("get", KINDS, "-o", "name", "-l", "app!=enqueue").split()
        return set(listed)


@pytest.fixture
def shop(
    kubectl: ClusterCommand, operator: OperatorRelease, namespace: str, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    """A restricted namespace with a Redis that answers."""
    kubectl("label", "namespace", namespace, RESTRICTED)
    shop = Shop(kubectl, operator.namespace, namespace)
    shop.apply(*pod_fleet.manifests())
    shop.run("rollout", "status", "deployment/redis", "--timeout=60s")
    yield shop
    if request.node.stash.get(FAILED, False):
        evidence.show(kubectl, namespace, operator.namespace)


def thumbnails() -> dict[str, Any]:
    """The example's own manifest, but in less of a hurry to save money than the test is to end."""
    manifest: dict[str, Any] = yaml.safe_load((EXAMPLE / "taskqueue.yaml").read_text())
    manifest["spec"]["autoscaler"]["cooldownSeconds"] = 5
    manifest["spec"]["autoscaler"]["behavior"]["scaleDown"] = {
        "stabilizationWindowSeconds": 5,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    }
    return manifest


def enqueue(tasks: int) -> dict[str, Any]:
    """A Job that sends the tasks, waits for every result and fails unless each is there and right."""
    container = {
        "name": "enqueue",
        "image": "taskfleet-thumbnails:dev",
        "command": ["python", "/app/enqueue.py", "--tasks", str(tasks), "--verify", "--timeout", "600"],
        "env": [{"name": "REDIS_URL", "value": "redis://redis:6379/0"}],
    }
    pod = {**SECURITY, "restartPolicy": "Never", "containers": [container | CONTAINER]}
    labels = {"app": "enqueue"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "enqueue"},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def until(what: str, seconds: float, true: Callable[[], Any]) -> Any:
    """The value of `true`, as soon as it is truthy. A command that fails is tried again."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(CommandError, KeyError, subprocess.TimeoutExpired):
            if found := true():
                return found
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def summary_of_the_sender(shop: Shop, seconds: float) -> dict[str, Any]:
    """Wait for the end of the Job; its findings."""

    def ended() -> bool:
        status = shop.get("job", "enqueue")["status"]
        return bool(status.get("succeeded") or status.get("failed"))

    until("the end of the sender", seconds, ended)
    summary: dict[str, Any] = json.loads(shop.run("logs", "job/enqueue").splitlines()[-1])
    print("sender:", summary)
    return summary


def test_a_burst_brings_workers_and_its_end_takes_them_away(shop: Shop) -> None:
    before = shop.names()
    shop.apply(thumbnails())
    until("ready at zero", 60, lambda: condition(shop, "Ready") == "True" and shop.replicas() == 0)

    started = time.monotonic()
    seen: list[tuple[float, int, int, int]] = []
    reasons: dict[str, str] = {}

    def look(end: Callable[[dict[str, Any]], bool]) -> Callable[[], bool]:
        def looked() -> bool:
            status = shop.queue()["status"]
            desired, replicas, backlog = (
                int(status.get(key) or 0) for key in ("desiredReplicas", "replicas", "totalBacklog")
            )
            now = (desired, replicas, backlog)
            if not seen or seen[-1][1:] != now:
                seen.append((round(time.monotonic() - started, 1), *now))
            decision = status.get("autoscaler", {}).get("lastDecision", {})
            if decision.get("message"):
                reasons[decision["message"]] = decision["reason"]
            return end(status)

        return looked

    shop.apply(enqueue(TASKS))
    until("several workers", 90, look(lambda status: (status.get("replicas") or 0) >= 2))
    until("the decision's reason where people look", 30, lambda: the_decision_is_shown(shop))
    print(shop.run("get", "tq", "thumbnails", "-o", "wide"))

    until("no backlog", 600, look(lambda status: status.get("totalBacklog") == 0))
    summary = summary_of_the_sender(shop, 600)
    assert summary | {"seconds": 0} == {
        "enqueued": TASKS, "succeeded": TASKS, "failed": 0, "wrong": 0, "lost": 0, "seconds": 0,
    }  # fmt: skip
    until(
        "no workers again", 180, look(lambda status: not status.get("replicas") and status.get("desiredReplicas") == 0)
    )
    for line in seen:
        print("{:6.1f} s: desired {}, replicas {}, backlog {}".format(*line))
    print(*(f"{reason}: {message}" for message, reason in reasons.items()), sep="\n")
    print(shop.run("describe", "tq", "thumbnails").partition("Events:")[2])

    figures = shop.figures()
    assert (figures["enqueued_total"], figures["finished_total"]) == (TASKS, TASKS)
    assert (figures["ready"], figures["in_flight"], figures["dead"], figures["failed_total"]) == (0, 0, 0, 0)

    shop.run("delete", "tq", "thumbnails", "--timeout=60s")
    until(f"nothing left but {before}", 60, lambda: shop.names() <= before)


def test_a_killed_worker_loses_no_task(shop: Shop, cluster: KubernetesCluster) -> None:
    shop.apply(thumbnails())
    until("ready", 60, lambda: condition(shop, "Ready") == "True")
    shop.apply(enqueue(TASKS))

    def two_at_work() -> list[dict[str, Any]] | None:
        ready = [pod for pod in shop.pods() if pod["status"]["containerStatuses"][0]["ready"]]
        return ready if len(ready) >= 2 and shop.figures()["in_flight"] >= 2 else None

    first, second, *_ = until("two workers at work", 120, two_at_work)
    shop.run("delete", "pod", first["metadata"]["name"], "--grace-period=0", "--force", "--wait=false")
    if cluster.ours:
        # A process that is the first of its container cannot be killed from inside of it.
        container = second["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        node = f"{CLUSTER_NAME}-control-plane"
        engine.docker("exec", node, "ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)
    assert shop.figures()["finished_total"] < TASKS, "the workers were killed too late to prove anything"
    until("the first pod gone", 30, lambda: first["metadata"]["name"] not in names_of(shop.pods()))
    if cluster.ours:
        until("the second pod's container started again", 30, lambda: restarts(shop, second["metadata"]["name"]) >= 1)

    summary = summary_of_the_sender(shop, 600)
    assert (summary["succeeded"], summary["lost"], summary["wrong"]) == (TASKS, 0, 0)
    figures = shop.figures()
    assert (figures["finished_total"], figures["dead"], figures["in_flight"]) == (TASKS, 0, 0)
    shop.run("delete", "tq", "thumbnails", "--timeout=60s")


def test_code_from_a_config_map_runs_on_the_plain_worker_image(shop: Shop) -> None:
    code = [f"--from-file={file}" for file in sorted((EXAMPLE / "thumbnails").glob("*.py"))]
    shop.run("create", "configmap", "thumbnails-code", *code)
    locks = [f"--from-file={EXAMPLE / name}" for name in ("requirements.txt", "photos.txt")]
    shop.run("create", "configmap", "thumbnails-locks", *locks)
    manifest = yaml.safe_load((EXAMPLE / "taskqueue-mounted.yaml").read_text())
    # A test's pods reach no package index: the same packages come from the other image.
    (packages,) = manifest["spec"]["worker"]["template"]["spec"]["initContainers"]
    packages["image"] = "taskfleet-thumbnails:dev"
    packages["command"] = ["cp", "-r", "/packages/.", "/into"]
    packages["volumeMounts"][0]["mountPath"] = "/into"
    shop.apply(manifest)
    until("ready", 60, lambda: condition(shop, "Ready") == "True")
    shop.apply(enqueue(60))
    until("a worker", 60, lambda: shop.replicas() >= 1)
    (worker,) = shop.get("deployment", "thumbnails-worker")["spec"]["template"]["spec"]["containers"]
    assert worker["image"] == "taskfleet-worker:dev"
    assert summary_of_the_sender(shop, 120)["succeeded"] == 60
    shop.run("delete", "tq", "thumbnails", "--timeout=60s")


def the_decision_is_shown(shop: Shop) -> bool:
    wide, described = shop.run("get", "tq", "thumbnails", "-o", "wide"), shop.run("describe", "tq", "thumbnails")
    decision = shop.queue()["status"]["autoscaler"]["lastDecision"]
    return decision["message"] in wide and decision["reason"] in described and decision["message"] in described


def names_of(pods: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods}


def restarts(shop: Shop, pod: str) -> int:
    return int(shop.get("pod", pod)["status"]["containerStatuses"][0]["restartCount"])


def condition(shop: Shop, name: str) -> str | None:
    found = {one["type"]: one["status"] for one in shop.queue()["status"].get("conditions", ())}
    return found.get(name)
