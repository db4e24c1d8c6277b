"""Guarantees of the operator beside replicas: drift, secrets, refused specs, the order of removal."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet.child_process import ends_with_this_process
from tests.support.operator_space import CHILDREN, Manifest, Space, enqueue, until
from tests.support.redis_server import RedisServer

COST = "controller.kubernetes.io/pod-deletion-cost"
Make = Callable[..., "Queue"]


class Queue(Space):
    """A TaskQueue with a unique name in the namespace that all tests of this file share."""

    def __init__(self, space: Space, name: str, redis: dict[str, Any]) -> None:
        super().__init__(space.kubectl, space.name)
        self.queue = name
        self.manifest: Manifest = {
            "apiVersion": "taskfleet.io/v1alpha1",
            "kind": "TaskQueue",
            "metadata": {"name": name},
            "spec": {
                "redis": {"keyPrefix": name, **redis},
                "queues": [{"name": "default"}],
                "worker": {"image": "registry.example/shop:1.0", "app": "shop.tasks:queue"},
                "autoscaler": {"maxReplicas": 5, "pollIntervalSeconds": 1, "cooldownSeconds": 0},
            },
        }

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get("tq", self.queue).get("status", {})
        return status

    def deployment(self) -> dict[str, Any]:
        return self.get("deployment", f"{self.queue}-worker")

    def replicas(self) -> int:
        return int(self.deployment().get("spec", {}).get("replicas", -1))

    def pods(self) -> list[dict[str, Any]]:
        label = f"app.kubernetes.io/instance={self.queue}"
        found: list[dict[str, Any]] = self.kubectl.json("get", "pods", "-n", self.name, "-l", label)["items"]
        return found

    def refused(self) -> dict[str, Any]:
        """Wait for the condition that names the mistake in the spec."""
        told: dict[str, Any] = until(
            lambda: (one := self.condition("SpecValid")).get("status") == "False" and one, "it is refused"
        )
        return told


@pytest.fixture(scope="module")
def shared(
    crd: None, kubectl: ClusterCommand, control_plane: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Space]:
    namespace = f"test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", namespace)
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "operator", "--namespace", namespace],
            env=os.environ | {"KUBECONFIG": str(control_plane)},
            stderr=out,
            preexec_fn=ends_with_this_process(),
        )
        yield Space(kubectl, namespace)
        alive = process.poll() is None
        process.terminate()
        process.wait(60)
    print(log.read_text())
    kubectl("delete", "namespace", namespace, "--wait=false")
    assert alive
    assert "Traceback" not in log.read_text()


@pytest.fixture
def make(shared: Space, redis_server: RedisServer) -> Make:
    """`make(name, redis=…, **fields of spec)`: apply a TaskQueue and wait until the operator has handled it."""

    def made(name: str, *, redis: dict[str, Any] | None = None, wait: bool = True, **fields: Any) -> Queue:
        queue = Queue(shared, name, redis or {"url": redis_server.url})
        for field, value in fields.items():
            merged = {**queue.manifest["spec"].get(field, {}), **value} if isinstance(value, dict) else value
            queue.manifest["spec"][field] = merged
        queue.apply(queue.manifest)
        if wait:
            until(
                lambda: queue.condition("RedisReachable").get("status") == "True",
                f"{name} has been looked at",
                seconds=60,
            )
        return queue

    return made


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_deleted_child_is_back_soon(kind: str, make: Make) -> None:
    queue = make("deleted")
    before = queue.get(kind, "deleted-worker")["metadata"]["uid"]
    queue("delete", kind, "deleted-worker")

    def another() -> bool:
        return bool(queue.get(kind, "deleted-worker").get("metadata", {}).get("uid", before) != before)

    until(another, f"the {kind} is back")


def test_an_edited_child_is_corrected_soon(make: Make) -> None:
    queue = make("edited")
    queue("patch", "configmap", "edited-worker", "--type=merge", "-p", '{"data": {"queues.json": "[]", "x": "other"}}')
    data = until(
        lambda: (found := queue.get("configmap", "edited-worker")["data"])["queues.json"] != "[]" and found,
        "the operator's value is back",
    )
    assert data["x"] == "other"


def test_an_optional_child_is_deleted_when_it_is_no_longer_wanted(make: Make) -> None:
    queue = make("optional")
    until(lambda: queue.get("poddisruptionbudget", "optional-worker"), "the budget exists")
    budget = '{"spec": {"worker": {"podDisruptionBudget": {"mode": "Disabled"}}}}'
    queue("patch", "tq", "optional", "--type=merge", "-p", budget)
    until(lambda: not queue.get("poddisruptionbudget", "optional-worker"), "the budget is gone")
    assert queue.deployment()


def test_the_first_task_brings_a_worker_although_the_next_poll_is_far_away(
    make: Make, redis_server: RedisServer
) -> None:
    # The poll interval is ten minutes, so only the wake-up can be the cause.
    queue = make("push", autoscaler={"pollIntervalSeconds": 600})
    watch = subprocess.Popen(
        [
            str(queue.kubectl.binary), "get", "deployment", "push-worker", "--namespace", queue.name, "--watch",
            "-o", 'jsonpath={.spec.replicas}{"\\n"}',
        ],
        env=os.environ | {"KUBECONFIG": str(queue.kubectl.kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert watch.stdout is not None
    try:
        assert watch.stdout.readline().strip() == "0"
        began = time.monotonic()
        enqueue(redis_server, "push", 1)
        while watch.stdout.readline().strip() != "1":
            assert watch.poll() is None
        took = time.monotonic() - began
    finally:
        watch.kill()
        watch.communicate()
    print(f"enqueue to replicas: {took:.3f} s")
    assert took < 120, "a busy machine takes its time, and not that of the poll"


def test_the_marked_pod_is_the_one_that_goes(make: Make) -> None:
    queue = make("leaving", replicas=3, autoscaler={"mode": "Disabled"})
    until(lambda: len(queue.pods()) == 3, "there are three pods")
    # The mark is there for a moment only, which a look at the pods may miss.
    cost = COST.replace(".", r"\.")
    watch = subprocess.Popen(
        [
            str(queue.kubectl.binary), "get", "pods", "-l", "app.kubernetes.io/instance=leaving",
            "--namespace", queue.name, "--watch",
            "-o", f'jsonpath={{.metadata.name}} {{.metadata.annotations.{cost}}}{{"\\n"}}',
        ],
        env=os.environ | {"KUBECONFIG": str(queue.kubectl.kubeconfig)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=ends_with_this_process(),
    )  # fmt: skip
    assert watch.stdout is not None
    try:
        assert all(watch.stdout.readline() for _ in range(3)), "it shows those that are there"
        queue("scale", "tq/leaving", "--replicas=2")
        shown = (line.split() for line in watch.stdout)
        victim = next(name for name, *marked in shown if marked == ["-1000"])
    finally:
        watch.kill()
        watch.communicate()
    until(lambda: queue.replicas() == 2, "two are asked for")
    until(lambda: victim not in {pod["metadata"]["name"] for pod in queue.pods()}, "the marked one went")
    until(lambda: len(queue.pods()) == 2, "the others stay")


def test_only_a_secret_key_that_the_workers_read_rolls_them(
    make: Make, shared: Space, redis_server: RedisServer
) -> None:
    def secret(**values: str) -> None:
        shared.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": values})

    def seen() -> str:
        template = queue.deployment()["spec"]["template"]
        return str(template["metadata"]["annotations"]["taskfleet.io/config-hash"])

    def reconciled_again(mark: str) -> None:
        # Any change of the TaskQueue triggers a reconcile. The resync, once a minute, is too slow for a test.
        queue("annotate", "tq", "keys", f"example.com/look={mark}", "--overwrite")

    secret(url=redis_server.url, other="1")
    queue = make("keys", redis={"urlSecretRef": {"name": "keys", "key": "url"}})
    before = seen()
    secret(url=redis_server.url, other="2")
    reconciled_again("first")
    time.sleep(2)
    assert seen() == before
    secret(url=redis_server.url.replace("/0", "/1"), other="2")
    reconciled_again("second")
    until(lambda: seen() != before, "the new value rolls the workers", seconds=60)


def test_a_lost_secret_is_a_condition_that_does_not_flicker(
    make: Make, shared: Space, redis_server: RedisServer
) -> None:
    url = {"url": redis_server.url}
    shared.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lost"}, "stringData": url})
    queue = make("lost", redis={"urlSecretRef": {"name": "lost", "key": "url"}})
    until(lambda: queue.condition("Ready").get("status") == "True", "it is ready")
    shared("delete", "secret", "lost")
    queue("annotate", "tq", "lost", "example.com/look=again")
    until(lambda: queue.condition("Ready").get("reason") == "SecretMissing", "the status says so", seconds=60)
    version = queue.get("tq", "lost")["metadata"]["resourceVersion"]
    enqueue(redis_server, "lost", 1)
    until(lambda: queue.replicas() == 1, "the connection that is there still serves")
    until(lambda: queue.get("tq", "lost")["metadata"]["resourceVersion"] != version, "the status is written again")
    assert queue.condition("Ready")["reason"] == "SecretMissing"


def test_reconciling_can_be_switched_off(make: Make) -> None:
    queue = make("alone")
    queue("annotate", "tq", "alone", "taskfleet.io/reconcile=disabled")
    until(lambda: queue.condition("Progressing").get("reason") == "ReconcileDisabled", "the status says so")
    queue("delete", "service", "alone-worker")
    time.sleep(2)
    assert not queue.get("service", "alone-worker")
    queue("annotate", "tq", "alone", "taskfleet.io/reconcile-")
    until(lambda: queue.get("service", "alone-worker"), "the service is back")


def test_an_annotation_without_meaning_is_named(make: Make) -> None:
    queue = make("annotated")
    queue("annotate", "tq", "annotated", "autoscaling.taskfleet.io/paused-replicas=three")
    assert "autoscaling.taskfleet.io/paused-replicas" in queue.refused()["message"]
    queue("annotate", "tq", "annotated", "autoscaling.taskfleet.io/paused-replicas=3", "--overwrite")
    until(lambda: queue.replicas() == 3, "it is understood")


def test_a_malformed_pod_template_is_named(make: Make) -> None:
    bad = {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"cpu": "a lot"}}}]}}
    queue = make("template", worker={"template": bad}, wait=False)
    message = queue.refused()["message"]
    assert message.startswith("spec.worker.template: ")
    assert "quantities must match" in message
    limits = {"limits": {"cpu": "1000m", "memory": "1024Mi"}}
    queue.manifest["spec"]["worker"]["template"]["spec"]["containers"][0]["resources"] = limits
    queue.apply(queue.manifest)
    until(lambda: queue.condition("SpecValid").get("status") == "True", "it is understood")


def test_a_lost_redis_changes_no_count_but_the_user_may(make: Make) -> None:
    with RedisServer() as server:
        queue = make("cut-off", redis={"url": server.url, "commandTimeoutSeconds": 1})
        enqueue(server, "cut-off", 450)
        until(lambda: queue.replicas() > 0, "there are workers", seconds=40)
    until(lambda: queue.condition("RedisReachable")["status"] == "False", "the status says so", seconds=40)
    count = queue.replicas()
    time.sleep(3)
    assert queue.replicas() == count
    queue("patch", "tq", "cut-off", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: queue.replicas() == 0, "suspended", seconds=40)


def test_the_workers_fit_a_restricted_namespace(make: Make) -> None:
    queue = make("restricted")
    template = queue.deployment()["spec"]["template"]["spec"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "as-a-worker"}, "spec": template}
    label = "pod-security.kubernetes.io/enforce"
    queue.kubectl("label", "namespace", queue.name, f"{label}=restricted")
    try:
        queue("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    finally:
        queue.kubectl("label", "namespace", queue.name, f"{label}-")
