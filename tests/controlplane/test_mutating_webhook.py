"""A mutating admission webhook of the cluster is not fought: what it makes of children stays, and writes are few."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from tests.support.mutating_webhook import MutatingWebhook
from tests.support.operator_space import NAME, Manifest, Space, enqueue, settled, until
from tests.support.process_node_fleet import OperatorProcesses
from tests.support.redis_server import RedisServer

Object = dict[str, Any]
_NEW = 6
"""Writes of a new Deployment at most: POST, its managers, and a conflict with the Deployment controller or two."""

_CHANGED = "Deployment spec.revisionHistoryLimit, Deployment spec.template.spec.containers[worker].image"

SIDECAR = {"name": "mesh", "image": "registry.example/mesh:1"}


def adding(live: Object) -> list[Object]:
    """As a service mesh does: an annotation and a label; a sidecar and an environment variable in a pod template."""
    metadata = live["metadata"]
    patch: list[Object] = []
    if "annotations" not in metadata:
        patch.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    patch.append({"op": "add", "path": "/metadata/annotations/mesh.example.com~1injected", "value": "yes"})
    patch.append({"op": "add", "path": "/metadata/labels/mesh.example.com~1rev", "value": "1"})
    if live["kind"] == "Deployment":
        root = "/spec/template/spec/containers"
        containers = live["spec"]["template"]["spec"]["containers"]
        worker = next(number for number, one in enumerate(containers) if one["name"] == "worker")
        if all(one["name"] != "MESH" for one in containers[worker]["env"]):
            patch.append({"op": "add", "path": f"{root}/{worker}/env/-", "value": {"name": "MESH", "value": "on"}})
        if all(one["name"] != "mesh" for one in containers):
            patch.append({"op": "add", "path": f"{root}/-", "value": SIDECAR})
    return patch


def changing(live: Object) -> list[Object]:
    """It takes images from a mirror, and keeps more history: both are fields of the operator."""
    if live["kind"] != "Deployment":
        return []
    containers = live["spec"]["template"]["spec"]["containers"]
    return [
        *(
            {
                "op": "replace",
                "path": f"/spec/template/spec/containers/{number}/image",
                "value": f"mirror.example/{one['image'].rpartition('/')[2]}",
            }
            for number, one in enumerate(containers)
        ),
        {"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 7},
    ]


def stamping(live: Object, ticks: Iterator[int] = itertools.count()) -> list[Object]:  # noqa: B008
    """A new value at every call, a dry run too."""
    if live["kind"] != "Deployment":
        return []
    value = {**(live["metadata"].get("annotations") or {}), "audit.example.com/write": str(next(ticks))}
    return [{"op": "add", "path": "/metadata/annotations", "value": value}]


@pytest.fixture
def webhook(kubectl: ClusterCommand, namespace: str, tmp_path: Path) -> Iterator[MutatingWebhook]:
    (tmp_path / "webhook").mkdir()
    with MutatingWebhook(tmp_path / "webhook", namespace, adding) as running:
        yield running
        kubectl("delete", "mutatingwebhookconfiguration", f"mutating-{namespace}", "--ignore-not-found")


def install(webhook: MutatingWebhook, space: Space) -> None:
    space.kubectl("apply", "-f", "-", stdin=json.dumps(webhook.configuration()))
    probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "labels": {"a": "b"}}}

    def asked() -> bool:
        space("create", "-f", "-", "--dry-run=server", stdin=json.dumps(probe))
        return bool(webhook.reviews)

    until(asked, "the API server asks the webhook")
    webhook.reviews.clear()


def looks(space: Space, count: int) -> None:
    """Have the operator reconcile so many times: each time another correction shows that it has."""
    for number in range(count):
        space("annotate", "tq", "orders", f"example.com/look={number}", "--overwrite")
        before = space.get("service", NAME)["metadata"]["resourceVersion"]
        space("label", "service", NAME, "app.kubernetes.io/component=another", "--overwrite")
        until(
            lambda: (
                (live := space.get("service", NAME))["metadata"]["labels"]["app.kubernetes.io/component"] != "another"
                and live["metadata"]["resourceVersion"] != before  # noqa: B023
            ),
            "the Service is put right",
        )


@pytest.mark.parametrize("mutate", [adding, changing, stamping])
def test_a_webhook_that_mutates_children_is_not_fought(
    operators: OperatorProcesses,
    webhook: MutatingWebhook,
    space: Space,
    manifest: Manifest,
    redis_server: RedisServer,
    prefix: str,
    mutate: Callable[[Object], list[Object]],
) -> None:
    webhook.mutate = mutate
    install(webhook, space)
    operators.start()
    space.apply(manifest)
    until(lambda: settled(space) and space.condition("Reconciled").get("status") == "True", "it is applied")
    assert webhook.writes("Deployment") <= _NEW

    before = webhook.writes("Deployment")
    looks(space, 3)
    assert webhook.writes("Deployment") == before, "the dry run, or the last apply, is the measure"
    enqueue(redis_server, prefix, 1)
    until(lambda: space.replicas() == 1, "a task brings a worker")
    looks(space, 1)
    assert webhook.writes("Deployment") == before + 1, "the number, and nothing else"

    template = space.get("deployment", NAME)["spec"]["template"]
    operators.kill()
    operators.start()
    looks(space, 2)
    assert webhook.writes("Deployment") <= before + 2, "an operator without a memory may write once"
    assert space.get("deployment", NAME)["spec"]["template"] == template, "nothing is rolled"

    manifest["spec"]["worker"]["image"] = "registry.example/shop:2.0"
    space.apply(manifest)
    until(lambda: images(space)[0].endswith("shop:2.0"), "the new image")
    looks(space, 1)
    assert webhook.writes("Deployment") <= before + 4
    reconciled = space.condition("Reconciled")
    told = f", but for what the cluster changes when it is written: {_CHANGED}" if mutate is changing else ""
    assert (reconciled["status"], reconciled["message"]) == ("True", f"every child is as the spec wants it{told}")
    live = space.get("deployment", NAME)
    env = {one["name"] for one in live["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (images(space), live["spec"]["revisionHistoryLimit"]) == {
        "adding": (["registry.example/shop:2.0", SIDECAR["image"]], 3),
        "changing": (["mirror.example/shop:2.0"], 7),
        "stamping": (["registry.example/shop:2.0"], 3),
    }[mutate.__name__]
    assert ("MESH" in env) == (mutate is adding)
    assert ("mesh.example.com/injected" in live["metadata"].get("annotations", {})) == (mutate is adding)
    assert ("mesh.example.com/rev" in space.get("configmap", NAME)["metadata"]["labels"]) == (mutate is adding)


def images(space: Space) -> list[str]:
    return [one["image"] for one in space.get("deployment", NAME)["spec"]["template"]["spec"]["containers"]]
