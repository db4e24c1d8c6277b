"""The store of the cluster's objects: by uid, found by their owners, replaced by a list."""

from __future__ import annotations

from typing import Any, cast

import pytest

from taskfleet_operator.control.api.kubernetes_api import ApiError, KubernetesApi, UnreachableError
from taskfleet_operator.control.store.cluster_store import ClusterStore, Object, seconds_of
from taskfleet_operator.control.store.informer import Informer, Watched
from tests.unit.operator.builders import controlled_by

KEY = ("shop", "orders")


def made(name: str, uid: str, **metadata: Any) -> Object:
    return {"metadata": {"namespace": "shop", "name": name, "uid": uid, **metadata}}


def of_queue(name: str, uid: str, queue: str = "q1", **metadata: Any) -> Object:
    owner = controlled_by("taskfleet.io/v1alpha1", "TaskQueue", "orders", queue)
    return made(name, uid, **owner, **metadata)


def chain(store: ClusterStore, queue: str = "q1", number: int = 1) -> None:
    """A TaskQueue with its Deployment, a ReplicaSet and a pod."""
    store.put("TaskQueue", made("orders", queue))
    store.put("Deployment", of_queue("orders-worker", f"d{number}", queue))
    owner = controlled_by("apps/v1", "Deployment", "orders-worker", f"d{number}")
    store.put("ReplicaSet", made(f"orders-worker-{number}", f"r{number}", **owner))
    owner = controlled_by("apps/v1", "ReplicaSet", f"orders-worker-{number}", f"r{number}")
    store.put("Pod", made(f"pod-{number}", f"p{number}", **owner))


@pytest.fixture
def store() -> ClusterStore:
    return ClusterStore()


def test_a_child_belongs_to_the_taskqueue_of_its_controllers_uid(store: ClusterStore) -> None:
    store.put("TaskQueue", made("orders", "q1"))
    # Before the store knows whose it is, a child concerns whoever has the name.
    assert store.put("Service", of_queue("orders-worker", "s1", "q0")) == {KEY}
    assert store.children["Service"].get(KEY) is None
    foreign = made("orders-worker", "s2", labels={"app.kubernetes.io/instance": "orders"})
    assert store.put("Service", foreign) == set()
    assert store.children["Service"].get(KEY) is None
    ours = of_queue("orders-worker", "s3")
    assert store.put("Service", ours) == {KEY}
    assert store.children["Service"][KEY] is ours
    assert list(store.children["Service"]) == [KEY]


def test_a_child_that_loses_its_owner_concerns_the_taskqueue_that_loses_it(store: ClusterStore) -> None:
    store.put("TaskQueue", made("orders", "q1"))
    store.put("Service", of_queue("orders-worker", "s1"))
    assert store.put("Service", made("orders-worker", "s1", resourceVersion="2")) == {KEY}
    assert store.children["Service"].get(KEY) is None


def test_another_object_of_the_taskqueue_is_not_its_child(store: ClusterStore) -> None:
    store.put("TaskQueue", made("orders", "q1"))
    store.put("ConfigMap", of_queue("somebodys", "c1"))
    assert store.children["ConfigMap"].get(KEY) is None


def test_the_children_may_be_there_first(store: ClusterStore) -> None:
    owner = controlled_by("apps/v1", "ReplicaSet", "orders-worker-1", "r1")
    assert store.put("Pod", made("pod-1", "p1", **owner)) == set()
    chain(store)
    assert store.pods(KEY).keys() == {"pod-1"}
    assert len(store.replica_sets(KEY)) == 1


def test_pods_of_an_earlier_taskqueue_of_that_name_are_not_counted(store: ClusterStore) -> None:
    chain(store)
    chain(store, queue="q2", number=2)
    assert store.pods(KEY).keys() == {"pod-2"}
    assert store.deployments[KEY]["metadata"]["uid"] == "d2"


def test_the_late_end_of_an_earlier_taskqueue_leaves_the_new_one(store: ClusterStore) -> None:
    first, second = made("orders", "q1"), made("orders", "q2")
    store.put("TaskQueue", first)
    store.put("TaskQueue", second)
    assert store.remove("TaskQueue", first) == {KEY}
    assert store.queues == {KEY: second}
    assert store.remove("TaskQueue", first) == set()


def test_a_list_replaces_what_is_there_in_its_namespace(store: ClusterStore) -> None:
    chain(store)
    other = {"metadata": {"namespace": "other", "name": "bills", "uid": "q9", "resourceVersion": "1"}}
    store.put("TaskQueue", other)
    assert store.replace("TaskQueue", "shop", []) == {KEY}
    assert store.queues == {("other", "bills"): other}
    assert store.replace("Pod", None, []) == {KEY}
    assert store.replace("TaskQueue", None, [other]) == set()  # as it was


def test_a_write_of_status_alone_asks_for_no_reconcile(store: ClusterStore) -> None:
    assert store.put("TaskQueue", made("orders", "q1", generation=1, resourceVersion="1")) == {KEY}
    assert store.put("TaskQueue", made("orders", "q1", generation=1, resourceVersion="2")) == set()
    assert store.queues[KEY]["metadata"]["resourceVersion"] == "2"
    assert store.put("TaskQueue", made("orders", "q1", generation=2, resourceVersion="3")) == {KEY}


def test_a_pod_that_was_forgotten_comes_back_only_by_its_watch(store: ClusterStore) -> None:
    chain(store)
    pod = store.pods(KEY)["pod-1"]
    store.forget_pod(KEY, "pod-1")
    assert not store.pods(KEY)
    assert store.remove("Pod", pod) == set()
    store.forget_pod(KEY, "pod-1")


@pytest.mark.parametrize(
    ("error", "answered"),
    [
        (ApiError(404, "no such resource"), True),
        (ApiError(403, "forbidden"), True),
        (ApiError(503, "overloaded"), True),
        (ApiError(401, "Unauthorized"), False),
        (UnreachableError(OSError("refused")), False),
    ],
    ids=str,
)
async def test_only_an_answer_counts_as_a_sign_of_the_server(
    error: Exception, answered: bool, store: ClusterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A definition that is missing for long must not end in one restart after another.
    monkeypatch.setattr("taskfleet_operator.control.store.informer._LAST_PAUSE_SECONDS", 0.0)
    informer = Informer(cast("KubernetesApi", None), store, Watched("v1", "Pod"), None, lambda _kind, _keys: None)
    informer.last_answer = informer.last_step = 0.0
    await informer._recover(error)
    assert (informer.last_answer > 0.0) == answered
    assert informer.last_step > 0.0


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "9999-99-99T00:00:00Z", "2026-11-25", "\x1b", "Z"])
def test_an_unreadable_time_stops_no_scaling(timestamp: str | None) -> None:
    assert seconds_of(timestamp) is None or timestamp == "2026-11-25"


def test_a_time() -> None:
    assert seconds_of("1970-01-01T00:01:00Z") == 60.0


def test_pods_that_a_deployment_would_adopt_are_counted_by_their_labels(store: ClusterStore) -> None:
    labels = {"app": "worker", "queue": "orders"}
    chain(store)
    for number, pod in enumerate(
        [
            made("left-by-a-deployment", "p2", labels={**labels, "pod-template-hash": "1"}),
            made("of-another-queue", "p3", labels={**labels, "queue": "mail"}),
            made("of-another-namespace", "p4", labels=labels, namespace="depot"),
            made("ending", "p5", labels=labels, deletionTimestamp="2026-01-01T00:00:00Z"),
            {**made("ended", "p6", labels=labels), "status": {"phase": "Succeeded"}},
        ]
    ):
        store.put("Pod", pod)
        assert store.adoptable_pods("shop", labels) == 1, number
