"""Ownership on a real API server: what is not a child of the TaskQueue is never changed and never deleted."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskfleet_operator.children import KINDS, ChildKind
from taskfleet_operator.control.api.kubernetes_api import AUTOSCALER, OPERATOR, ApiError, KubernetesApi
from taskfleet_operator.control.reconciling.applying import ApplyError, Change, rehearse, write
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD
from tests.support.operator_space import CHILDREN, NAME, Manifest, Space, enqueue, settled, told, until
from tests.support.redis_server import RedisServer

META = {"name": NAME, "labels": {"app": "somebody"}}
POD = {"metadata": {"labels": {"app": "somebody"}}, "spec": {"containers": [{"name": "own", "image": "own:1"}]}}
SELECTOR = {"matchLabels": {"app": "somebody"}}
FOREIGN: dict[str, dict[str, Any]] = {
    "serviceaccounts": {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": META},
    "configmaps": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": META, "data": {"own": "data"}},
    "services": {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": META,
        "spec": {"selector": {"app": "somebody"}, "ports": [{"port": 80}]},
    },
    "poddisruptionbudgets": {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": META,
        "spec": {"maxUnavailable": 3, "selector": SELECTOR},
    },
    "deployments": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": META,
        "spec": {"replicas": 0, "selector": SELECTOR, "template": POD},
    },
}
LABELS = {"app.kubernetes.io/managed-by": "taskfleet-operator", "app.kubernetes.io/instance": "orders"}


def content(live: dict[str, Any]) -> str:
    """What a user has written, and nothing that Kubernetes' own controllers add to it."""
    metadata = {name: live["metadata"].get(name) for name in ("uid", "labels", "ownerReferences")}
    return json.dumps([metadata, live.get("data"), live.get("spec")], sort_keys=True)


@pytest.mark.parametrize(
    ("kind", "labels"),
    # Objects with the operator's labels are in its store, those without are found by their name alone.
    [*((kind, LABELS) for kind in CHILDREN), ("configmaps", {"app": "somebody"}), ("deployments", {})],
)
def test_an_object_of_a_user_stays_as_it_is(
    operator: object, space: Space, manifest: Manifest, kind: str, labels: dict[str, str]
) -> None:
    foreign = {**FOREIGN[kind], "metadata": {**META, "labels": labels}}
    space("create", "-f", "-", stdin=json.dumps(foreign))
    before = content(space.get(kind, NAME))
    space.apply(manifest)
    message = told(space)
    assert f"{foreign['kind']} '{NAME}' exists without a controller" in message
    assert "delete or rename" in message
    assert told(space, "Ready") == message
    assert "observedGeneration" not in space.status()
    for other in CHILDREN:
        # Nothing is half applied: the other children are not made either.
        assert bool(space.get(other, NAME)) == (other == kind)
    space("delete", "tq", "orders")
    until(lambda: not space.get("tq", "orders"), "it is gone")
    assert content(space.get(kind, NAME)) == before


@pytest.fixture
async def cluster(control_plane: Path) -> AsyncIterator[KubernetesApi]:
    api = await KubernetesApi.connect(str(control_plane))
    yield api
    await api.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.plural)
async def test_no_write_hits_an_object_that_took_the_name_in_the_meantime(
    kind: ChildKind, cluster: KubernetesApi, space: Space
) -> None:
    foreign = FOREIGN[kind.plural]
    space("create", "-f", "-", stdin=json.dumps(foreign))
    before = content(space.get(kind.plural, NAME))
    body = {**copy.deepcopy(GOOD), "metadata": {"name": "orders", "namespace": space.name, "uid": "one"}}
    wanted = kind.build(TaskQueueResource.model_validate(body), {})
    assert wanted is not None
    another = {"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}}
    for live in (None, another):
        with pytest.raises(ApplyError) as caught:
            await write(Change(kind, wanted, live), None, cluster)
        assert caught.value.error.conflict
    with pytest.raises(ApiError) as refused:
        await cluster.delete(kind.api_version, kind.kind, space.name, NAME, another["metadata"]["uid"])
    assert refused.value.conflict
    if kind.scaled:
        with pytest.raises(ApiError) as refused:
            await cluster.scale(space.name, NAME, another["metadata"]["uid"], 7)
        assert refused.value.conflict
    assert content(space.get(kind.plural, NAME)) == before


async def test_a_rehearsal_that_meets_an_object_of_the_same_name_does_not_blame_the_spec(
    cluster: KubernetesApi, space: Space
) -> None:
    """The selector of a Deployment is immutable: the rehearsal is refused because of the foreign one."""
    space("create", "-f", "-", stdin=json.dumps(FOREIGN["deployments"]))
    (kind,) = [one for one in KINDS if one.scaled]
    body = {**copy.deepcopy(GOOD), "metadata": {"name": "orders", "namespace": space.name, "uid": "one"}}
    wanted = kind.build(TaskQueueResource.model_validate(body), {})
    assert wanted is not None
    with pytest.raises(ApplyError, match="in the meantime") as caught:
        await rehearse(Change(kind, wanted, None), cluster)
    assert caught.value.error.conflict
    assert not caught.value.error.invalid


def test_the_children_come_when_the_foreign_object_is_gone(operator: object, space: Space, manifest: Manifest) -> None:
    space("create", "-f", "-", stdin=json.dumps(FOREIGN["services"]))
    space.apply(manifest)
    told(space)
    space("delete", "service", NAME)
    space("annotate", "tq", "orders", "example.com/look=again")
    until(lambda: settled(space), "it is ready")
    assert space.condition("Reconciled")["status"] == "True"
    assert space.get("services", NAME)["metadata"]["ownerReferences"]


def test_a_child_of_another_taskqueue_stays(operator: object, space: Space, manifest: Manifest) -> None:
    """`orders` and a Deployment that another controller of the cluster has named `orders-worker`."""
    manifest["metadata"]["annotations"] = {"taskfleet.io/reconcile": "disabled"}
    space.apply(manifest)
    owner = space.get("tq", "orders")["metadata"]
    reference = {
        "apiVersion": "taskfleet.io/v1alpha1",
        "kind": "TaskQueue",
        "name": "other",
        "uid": owner["uid"][::-1],
        "controller": True,
    }
    foreign = {**FOREIGN["poddisruptionbudgets"], "metadata": {**META, "labels": LABELS}}
    # Without a living owner the garbage collector would take it, which waits for a finalizer of ours.
    foreign["metadata"] |= {"ownerReferences": [reference], "finalizers": ["example.com/stay"]}
    space("create", "-f", "-", stdin=json.dumps(foreign))
    try:
        space("annotate", "tq", "orders", "taskfleet.io/reconcile-")
        assert "belongs to the TaskQueue 'other'" in told(space)
        space("patch", "tq", "orders", "--type=merge", "-p", DISABLED)
        until(lambda: settled(space), "an object that is not wanted is in nobody's way")
        assert space.get("poddisruptionbudgets", NAME)["spec"]["maxUnavailable"] == 3
    finally:
        space("patch", "poddisruptionbudgets", NAME, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


def test_a_child_that_comes_back_from_a_backup_is_removed_again(
    operator: object, space: Space, manifest: Manifest
) -> None:
    """Once not wanted and not there, it is not asked for again; but the watch shows it when somebody brings it back."""
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    kept = space.get("poddisruptionbudgets", NAME)
    for name in ("uid", "resourceVersion", "managedFields", "creationTimestamp"):
        del kept["metadata"][name]
    space("patch", "tq", "orders", "--type=merge", "-p", DISABLED)
    until(lambda: not space.get("poddisruptionbudgets", NAME), "it is removed")
    space("annotate", "tq", "orders", "example.com/look=1")  # it is known not to be there
    until(lambda: space.condition("Reconciled").get("status") == "True", "it is in line")
    for _ in range(2):
        space("create", "-f", "-", stdin=json.dumps(kept))
        until(lambda: not space.get("poddisruptionbudgets", NAME), "it is removed again")
    stranger = {**kept, "metadata": {**kept["metadata"], "ownerReferences": []}}
    space("create", "-f", "-", stdin=json.dumps(stranger))
    space("annotate", "tq", "orders", "example.com/look=2", "--overwrite")
    until(lambda: space.condition("Reconciled").get("status") == "True", "it is in line")
    assert space.get("poddisruptionbudgets", NAME), "that of somebody else stays"


DISABLED = '{"spec": {"worker": {"podDisruptionBudget": {"mode": "Disabled"}}}}'


def test_a_taskqueue_made_again_waits_for_the_children_of_the_earlier_one(
    operator: object, space: Space, manifest: Manifest
) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    first = space.get("configmaps", NAME)["metadata"]["uid"]
    hold = '{"metadata": {"finalizers": ["example.com/stay"]}}'
    space("patch", "configmaps", NAME, "--type=merge", "-p", hold)
    space("delete", "tq", "orders")
    space.apply(manifest)
    assert "earlier TaskQueue of this name" in told(space)
    assert space.get("configmaps", NAME)["metadata"]["uid"] == first
    space("patch", "configmaps", NAME, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    until(lambda: settled(space), "it is ready")
    uid = space.get("tq", "orders")["metadata"]["uid"]
    for kind in CHILDREN:
        (owner,) = space.get(kind, NAME)["metadata"]["ownerReferences"]
        assert owner["uid"] == uid


@pytest.mark.parametrize("kind", ["deployments", "configmaps", "poddisruptionbudgets"])
def test_a_child_that_somebody_deletes_and_a_finalizer_holds_is_told_and_made_again(
    operator: object, space: Space, manifest: Manifest, kind: str
) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    first = space.get(kind, NAME)["metadata"]["uid"]
    space("patch", kind, NAME, "--type=merge", "-p", '{"metadata": {"finalizers": ["example.com/stay"]}}')
    space("delete", kind, NAME, "--wait=false")
    message = told(space, reason="ChildIsEnding")
    assert f"'{NAME}' is being deleted and waits for its finalizers: example.com/stay" in message
    assert space.get(kind, NAME)["kind"] in message
    space("patch", kind, NAME, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    until(lambda: space.get(kind, NAME).get("metadata", {}).get("uid", first) != first, "it is made again")
    until(lambda: space.condition("Reconciled").get("status") == "True", "it is in line")


def test_a_deployment_is_made_again_around_the_pods_that_are_left_whatever_the_status_says(
    operator: object, space: Space, manifest: Manifest
) -> None:
    """A Deployment that is ending loses its pods first, and the status is written once more in between."""
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    deployment = space.get("deployment", NAME)
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    for number in range(3):
        metadata = {"name": f"left-{number}", "labels": labels if number < 2 else {"app": "somebody"}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}
        space("create", "-f", "-", stdin=json.dumps(pod))
    assert space.status()["replicas"] == 0
    space("delete", "deployment", NAME, "--wait=false")
    first = deployment["metadata"]["uid"]
    again = until(
        lambda: (live := space.get("deployment", NAME)) and live["metadata"]["uid"] != first and live,
        "it is made again",
    )
    assert again["spec"]["replicas"] == 2


def test_two_field_managers_divide_a_new_child_between_them(operator: object, space: Space, manifest: Manifest) -> None:
    manifest["spec"]["autoscaler"]["minReplicas"] = 2
    space.apply(manifest)
    until(lambda: space.status().get("observedGeneration"), "it is applied")
    for kind in CHILDREN:
        entries = space.get(kind, NAME)["metadata"]["managedFields"]
        ours = [(one["manager"], one["operation"]) for one in entries if one["manager"] in (OPERATOR, AUTOSCALER)]
        assert sorted(ours) == sorted(
            [(OPERATOR, "Apply"), *([(AUTOSCALER, "Apply")] if kind == "deployments" else [])]
        )
    assert space.replicas() == 2
    (owned,) = [
        one["fieldsV1"]
        for one in space.get("deployments", NAME)["metadata"]["managedFields"]
        if one["manager"] == OPERATOR
    ]
    assert "f:replicas" not in owned["f:spec"]
    assert "f:terminationMessagePath" not in json.dumps(owned)


def test_a_field_that_the_spec_no_longer_has_is_gone(operator: object, space: Space, manifest: Manifest) -> None:
    """The creation of a child leaves no trace that would keep its fields alive."""
    manifest["spec"]["worker"]["template"] = {"spec": {"nodeSelector": {"disk": "fast"}, "priority": 0}}
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    manifest["spec"]["worker"]["template"] = {}
    space.apply(manifest)
    until(lambda: "nodeSelector" not in space.get("deployment", NAME)["spec"]["template"]["spec"], "it is gone")


def test_children_whose_owner_reference_was_taken_away_are_no_children(
    operator: object, space: Space, manifest: Manifest
) -> None:
    """As `kubectl delete --cascade=orphan` leaves them, and as a user does by hand."""
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    for kind in CHILDREN:
        space("patch", kind, NAME, "--type=merge", "-p", '{"metadata": {"ownerReferences": null}}')
    assert "exists without a controller" in told(space)
    before = {kind: content(space.get(kind, NAME)) for kind in CHILDREN}
    # Neither a new image, nor a number, nor a child that is not wanted any more.
    change: Manifest = {"worker": {"image": "shop:2.0", "podDisruptionBudget": {"mode": "Disabled"}}}
    change["autoscaler"] = {"minReplicas": 4}
    space("patch", "tq", "orders", "--type=merge", "-p", json.dumps({"spec": change}))
    until(lambda: "PodDisruptionBudget" not in space.condition("Reconciled")["message"], "the change was seen")
    assert {kind: content(space.get(kind, NAME)) for kind in CHILDREN} == before
    space("delete", "tq", "orders", "--cascade=orphan")
    space.apply(manifest)
    assert "PodDisruptionBudget" in told(space)
    assert {kind: content(space.get(kind, NAME)) for kind in CHILDREN} == before


def test_objects_that_take_the_names_of_children_later_stay_as_they_are(
    operator: subprocess.Popen[bytes], space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    """A user deletes each child and makes an object of the same name and labels, before the operator looks again."""
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    foreign = [{**FOREIGN[kind], "metadata": {**META, "labels": LABELS}} for kind in CHILDREN]
    operator.send_signal(signal.SIGSTOP)
    try:
        listed = {"apiVersion": "v1", "kind": "List", "items": foreign}
        space("replace", "--force", "-f", "-", stdin=json.dumps(listed))
        before = {kind: content(space.get(kind, NAME)) for kind in CHILDREN}
    finally:
        operator.send_signal(signal.SIGCONT)
    # It learns of them one after the other.
    for one in foreign:
        words = f"{one['kind']} '{NAME}' exists without a controller"
        until(lambda words=words: words in space.condition("Reconciled").get("message", ""), words)
    enqueue(redis_server, prefix, 100)
    change: Manifest = {"worker": {"image": "shop:2.0", "podDisruptionBudget": {"mode": "Disabled"}}}
    space("patch", "tq", "orders", "--type=merge", "-p", json.dumps({"spec": change}))
    until(lambda: "PodDisruptionBudget" not in space.condition("Reconciled")["message"], "the change was seen")
    assert {kind: content(space.get(kind, NAME)) for kind in CHILDREN} == before
    space("delete", "tq", "orders")
    space("annotate", "configmaps", NAME, "example.com/after=1")
    assert {kind: content(space.get(kind, NAME)) for kind in CHILDREN} == before


def test_a_child_without_its_labels_is_removed_when_it_is_not_wanted(
    operator: object, space: Space, manifest: Manifest
) -> None:
    """The watch shows only what has the operator's label; whose it is, the owner reference says."""
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    space("annotate", "tq", "orders", "taskfleet.io/reconcile=disabled")
    until(lambda: space.condition("Reconciled").get("reason") == "ReconcileDisabled", "it is left alone")
    space("scale", "deployment", NAME, "--replicas=2")
    until(lambda: space.status()["desiredReplicas"] == 2, "the status tells what is there", seconds=90)
    assert space.condition("Ready")["status"] == "False"
    space("label", "poddisruptionbudgets", NAME, "app.kubernetes.io/managed-by-")
    space("patch", "tq", "orders", "--type=merge", "-p", DISABLED)
    space("annotate", "tq", "orders", "taskfleet.io/reconcile-")
    until(lambda: not space.get("poddisruptionbudgets", NAME), "it is removed")
    # It comes back, and goes again.
    space("patch", "tq", "orders", "--type=merge", "-p", DISABLED.replace("Disabled", "Enabled"))
    until(lambda: space.get("poddisruptionbudgets", NAME), "it is made again")
    space("patch", "tq", "orders", "--type=merge", "-p", DISABLED)
    until(lambda: not space.get("poddisruptionbudgets", NAME), "it is removed again")
