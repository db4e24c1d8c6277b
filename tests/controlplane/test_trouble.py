"""The operator while the API server refuses it, does not know it, or has lost its watches."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet.child_process import ends_with_this_process
from taskfleet_operator.children import KINDS
from tests.support.api_proxy import ApiProxy, Call, refusal
from tests.support.operator_space import CHILDREN, Manifest, Space, enqueue, until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(400)


class Operator:
    """A running operator behind a proxy."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    def healthy(self) -> bool:
        return self._answers("healthz")

    def ready(self) -> bool:
        return self._answers("readyz")

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def proxy(crd: None, control_plane: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane, tmp_path) as running:
        yield running


@contextlib.contextmanager
def running(proxy: ApiProxy, namespace: str, log: Path) -> Iterator[Operator]:
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "operator", "--namespace", namespace, "--probe-port", str(port)],
            env=os.environ | {"KUBECONFIG": str(proxy.kubeconfig)},
            stderr=out,
            preexec_fn=ends_with_this_process(),
        )
        try:
            yield Operator(process, port, log)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            print(log.read_text())
    assert "Traceback" not in log.read_text()


@pytest.fixture
def operator(proxy: ApiProxy, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    with running(proxy, namespace, tmp_path / "operator.log") as found:
        yield found


def named(manifest: Manifest, name: str) -> Manifest:
    made = copy.deepcopy(manifest)
    made["metadata"]["name"] = name
    return made


def is_ready(space: Space, name: str) -> bool:
    conditions = space.get("tq", name).get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def has_children(space: Space, name: str) -> bool:
    return all(space.get(kind, f"{name}-worker") for kind in CHILDREN)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_everything_converges_after_the_api_server_has_refused_all_calls(
    status: int, operator: Operator, proxy: ApiProxy, space: Space, manifest: Manifest
) -> None:
    for name in ("changed", "deleted"):
        space.apply(named(manifest, name))
    until(lambda: is_ready(space, "changed") and is_ready(space, "deleted"), "they are ready", seconds=90)
    proxy.refuse = lambda _call: refusal(status, Retry_After="1")
    proxy.cut()
    space.apply(named(manifest, "made"))
    changed = named(manifest, "changed")
    changed["spec"]["worker"]["image"] = "registry.example/shop:2.0"
    space.apply(changed)
    space("delete", "service", "changed-worker")
    space("delete", "tq", "deleted", "--wait=true")
    before = len(proxy.calls)
    until(lambda: len(proxy.calls) > before + 40, "it has tried for a while", seconds=60)
    assert operator.healthy()
    proxy.refuse = lambda _call: None
    until(lambda: has_children(space, "made") and is_ready(space, "made"), "the new one is served", seconds=60)

    def updated() -> bool:
        pod = space.get("deployment", "changed-worker")["spec"]["template"]["spec"]
        return bool(pod["containers"][0]["image"].endswith(":2.0")) and bool(space.get("service", "changed-worker"))

    until(updated, "the change is applied, and the deleted child is back", seconds=60)
    until(lambda: not any(space.get(kind, "deleted-worker") for kind in CHILDREN), "its children are gone", seconds=60)


@pytest.mark.parametrize("kind", [kind.kind for kind in KINDS])
def test_a_child_that_is_deleted_while_its_watch_has_expired_is_made_again(
    kind: str, operator: Operator, proxy: ApiProxy, space: Space, manifest: Manifest
) -> None:
    plural = next(one.plural for one in KINDS if one.kind == kind)
    space.apply(manifest)
    until(lambda: is_ready(space, "orders"), "it is ready", seconds=90)
    expired(proxy, lambda: space("delete", plural, "orders-worker", "--wait=true"))
    until(lambda: space.get(plural, "orders-worker"), "it is back", seconds=90)


def expired(proxy: ApiProxy, change: Any) -> None:
    """Change something while every watch is away; each then begins with 410."""
    proxy.refuse = lambda _call: refusal(503)
    proxy.cut()
    change()
    listed: set[str] = set()

    def refuse(call: Call) -> Any:
        if call.is_watch:
            return None if call.path in listed else refusal(410, "too old resource version")
        if call.query.get("limit"):
            listed.add(call.path)
        return None

    proxy.refuse = refuse


def test_a_taskqueue_that_is_deleted_while_its_watch_has_expired_gets_no_more_writes(
    operator: Operator, proxy: ApiProxy, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    space.apply(manifest)
    until(lambda: is_ready(space, "orders"), "it is ready", seconds=90)
    expired(proxy, lambda: space("delete", "tq", "orders", "--wait=true"))
    other = named(manifest, "other")
    other["spec"]["redis"]["keyPrefix"] += "-other"
    space.apply(other)
    until(lambda: is_ready(space, "other"), "the watch is back", seconds=90)
    began = len(proxy.calls)
    enqueue(redis_server, prefix, 5)
    enqueue(redis_server, f"{prefix}-other", 5)
    deployment = lambda: space.get("deployment", "other-worker")["spec"]["replicas"]  # noqa: E731
    until(lambda: deployment() > 0, "the other one is scaled")
    written = [call.path for call in proxy.calls[began:] if call.is_write]
    assert any("/other" in path for path in written)
    assert not any("/orders" in path for path in written)


def test_a_definition_that_comes_later_is_served_without_a_restart(
    proxy: ApiProxy, namespace: str, tmp_path: Path, space: Space, manifest: Manifest
) -> None:
    proxy.refuse = lambda call: (
        refusal(404, "the server could not find the resource") if "taskqueue" in call.path else None
    )
    with running(proxy, namespace, tmp_path / "operator.log") as operator:
        until(lambda: "apply crds/taskqueue.yaml" in operator.log.read_text(), "the log says what is missing")
        assert operator.healthy()
        assert not operator.ready()
        proxy.refuse = lambda _call: None
        space.apply(manifest)
        until(lambda: is_ready(space, "orders"), "it is served", seconds=90)
        assert operator.ready()


def test_credentials_that_are_replaced_are_used(
    operator: Operator, proxy: ApiProxy, kubectl: ClusterCommand, namespace: str, space: Space, manifest: Manifest
) -> None:
    account = f"--serviceaccount={namespace}:second"
    kubectl("create", "serviceaccount", "second", "--namespace", namespace)
    kubectl("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin", account)
    try:
        first = proxy.token
        space.apply(named(manifest, "before"))
        until(lambda: is_ready(space, "before"), "it is ready", seconds=90)
        proxy.refuse = lambda call: refusal(401, "Unauthorized") if call.token == first else None
        proxy.cut()
        until(lambda: "there" in operator.log.read_text() or "401" in operator.log.read_text(), "it was refused")
        space.apply(named(manifest, "after"))
        proxy.log_in_with(kubectl("create", "token", "second", "--namespace", namespace).strip())
        until(lambda: is_ready(space, "after"), "it works with the new token", seconds=60)
        assert operator.healthy()
    finally:
        kubectl("delete", "clusterrolebinding", namespace)


def test_a_hundred_rounds_of_delete_and_create_at_once(
    operator: Operator, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    space.apply(manifest)
    until(lambda: is_ready(space, "orders"), "it is ready", seconds=90)
    for _ in range(100):
        space("replace", "--force", "--cascade=background", "-f", "-", stdin=json.dumps(manifest))
    uid = space.get("tq", "orders")["metadata"]["uid"]

    def owned() -> bool:
        children = [space.get(kind, "orders-worker") for kind in CHILDREN]
        return all(child and child["metadata"]["ownerReferences"][0]["uid"] == uid for child in children)

    until(owned, "the last one has its children", seconds=60)
    until(lambda: is_ready(space, "orders"), "and a whole status", seconds=90)
    enqueue(redis_server, prefix, 1)
    until(lambda: space.replicas() > 0, "and is scaled")


def test_a_label_that_somebody_edits_is_put_back(operator: Operator, space: Space, manifest: Manifest) -> None:
    space.apply(manifest)
    until(lambda: is_ready(space, "orders"), "it is ready", seconds=90)
    for kind in CHILDREN:
        space("label", kind, "orders-worker", "app.kubernetes.io/instance=bills", "--overwrite")
    space("label", "service", "orders-worker", "app.kubernetes.io/managed-by=somebody", "--overwrite")

    def put_back() -> bool:
        labels = [space.get(kind, "orders-worker")["metadata"]["labels"] for kind in CHILDREN]
        return all(
            (one["app.kubernetes.io/instance"], one["app.kubernetes.io/managed-by"]) == ("orders", "taskfleet-operator")
            for one in labels
        )

    until(put_back, "the labels are the operator's")


def test_after_a_restart_every_taskqueue_is_reconciled_soon(
    proxy: ApiProxy, kubectl: ClusterCommand, namespace: str, tmp_path: Path, space: Space, manifest: Manifest
) -> None:
    count = 30
    manifest["spec"]["autoscaler"]["pollIntervalSeconds"] = 60
    names = [f"queue-{number}" for number in range(count)]
    made = {"apiVersion": "v1", "kind": "List", "items": [named(manifest, name) for name in names]}

    def services() -> set[str]:
        found = kubectl.json("get", "services", "--namespace", namespace)["items"]
        return {item["metadata"]["name"].removesuffix("-worker") for item in found}

    with running(proxy, namespace, tmp_path / "first.log"):
        space("apply", "-f", "-", stdin=json.dumps(made))
        until(lambda: services() == set(names), "all are served", seconds=200)
        until(lambda: all(is_ready(space, name) for name in names[-3:]), "and ready", seconds=60)
    space("delete", "services", "--all", "--wait=true")
    began = time.monotonic()
    with running(proxy, namespace, tmp_path / "second.log"):
        until(lambda: services() == set(names), "their services are back", seconds=90)
        made_at = [call.at for call in proxy.writes() if call.at > began and "/services" in call.path]
    print(f"{len(made_at)} writes of services within {max(made_at) - min(made_at):.2f} s")
