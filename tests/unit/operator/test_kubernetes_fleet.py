"""The fleet of a TaskQueue in Kubernetes, against a recorded API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from taskfleet_operator.autoscaler import ScalingDecision, ScalingState, WorkerSample, decide
from taskfleet_operator.control.api.kubernetes_api import ApiError, KubernetesApi
from taskfleet_operator.control.fleet.kubernetes_fleet import KubernetesFleet
from taskfleet_operator.control.pods.departures import WrongDeparture
from taskfleet_operator.control.status.conditions import rfc3339
from taskfleet_operator.control.status.status_writer import StatusWriter
from taskfleet_operator.control.store.cluster_store import ClusterStore
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from taskfleet_operator.scaling.clock import ScalingClock
from tests.support.manifests import GOOD
from tests.unit.autoscaler.builders import NOW, sample, spec
from tests.unit.operator.builders import controlled_by

KEY = ("shop", "orders")
QUEUE_UID, DEPLOYMENT_UID, REPLICA_SET_UID = "queue-uid", "deployment-uid", "replica-set-uid"
COST = {"controller.kubernetes.io/pod-deletion-cost": "-1000"}


def queue(**metadata: Any) -> TaskQueueResource:
    return TaskQueueResource.model_validate(GOOD | {"metadata": {"name": "orders", "namespace": "shop", **metadata}})


class RecordedApi:
    """Keeps the calls. `generation` is the Deployment's after a change; `refusal` is raised for a deletion cost."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.generation = 2
        self.refusal: ApiError | None = None
        self.live: dict[str, Any] | None = None  # the Deployment, where it differs from what the watch has shown
        self.meanwhile: Callable[[], None] = lambda: None  # what happens before a change of the number returns

    async def scale(
        self, namespace: str, name: str, uid: str, replicas: int, *, version: str | None = None
    ) -> dict[str, Any]:
        if self.live is not None and version != self.live["metadata"]["resourceVersion"]:
            raise ApiError(409, "the object has been modified")
        self.calls.append(("scale", name, replicas))
        self.meanwhile()
        return {"metadata": {"generation": self.generation}}

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self.live

    async def create_event(self, namespace: str, event: dict[str, Any]) -> None:
        self.calls.append(("event", event["reason"]))

    async def set_deletion_cost(self, namespace: str, pod: str, cost: int) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.calls.append(("cost", pod, cost))


class Shop:
    """One TaskQueue with its fleet, and the objects that the watches have shown."""

    def __init__(self) -> None:
        self.api = RecordedApi()
        self.store = ClusterStore()
        api = cast("KubernetesApi", self.api)
        self.clock = ScalingClock(lambda: NOW, lambda: NOW + 1_700_000_000)
        self.fleet = KubernetesFleet(KEY, queue(), api, self.store, StatusWriter(api, self.store), self.clock)
        self.status()

    def status(self, **fields: Any) -> None:
        metadata = {"name": "orders", "namespace": "shop", "uid": QUEUE_UID}
        self.store.put("TaskQueue", GOOD | {"metadata": metadata, "status": fields})

    def deployment(self, replicas: int, generation: int, *, uid: str = DEPLOYMENT_UID, version: str = "") -> None:
        owner = controlled_by("taskfleet.io/v1alpha1", "TaskQueue", "orders", QUEUE_UID)
        metadata = {"namespace": "shop", "name": "orders-worker", "uid": uid, "generation": generation}
        metadata["resourceVersion"] = version or str(generation)
        self.store.put("Deployment", {"metadata": metadata | owner, "spec": {"replicas": replicas}})
        owner = controlled_by("apps/v1", "Deployment", "orders-worker", DEPLOYMENT_UID)
        metadata = {"namespace": "shop", "name": "orders-worker-1", "uid": REPLICA_SET_UID}
        self.store.put("ReplicaSet", {"metadata": metadata | owner})

    def pod(self, name: str, *, ready: bool = True, **metadata: Any) -> None:
        created = "1970-01-01T00:00:00Z"
        owner = controlled_by("apps/v1", "ReplicaSet", "orders-worker-1", REPLICA_SET_UID)
        metadata = {"namespace": "shop", "name": name, "uid": name, "creationTimestamp": created, **owner, **metadata}
        conditions = [{"type": "Ready", "status": str(ready)}]
        self.store.put("Pod", {"metadata": metadata, "status": {"conditions": conditions}})

    @property
    def current(self) -> int:
        replicas = self.fleet.replicas()
        assert replicas is not None
        return replicas.current


@pytest.fixture
def shop() -> Shop:
    return Shop()


def decided(current: int, desired: int) -> ScalingDecision:
    return ScalingDecision(desired, current, "DrainTime", "", "", {}, (), ScalingState.initial(current, 0.0))


def test_its_own_status_is_no_news(shop: Shop) -> None:
    assert not shop.fleet.update(queue(resourceVersion="2"))
    assert shop.fleet.update(queue(resourceVersion="3", annotations={"autoscaling.taskfleet.io/paused": "true"}))
    assert shop.fleet.order().overrides.paused


def test_there_is_nothing_to_scale_before_the_deployment_exists(shop: Shop) -> None:
    assert shop.fleet.replicas() is None


def test_pods_that_end_are_no_replicas(shop: Shop) -> None:
    shop.deployment(4, 1)
    shop.pod("a")
    shop.pod("b", ready=False)
    shop.pod("c", annotations=COST)
    shop.pod("d", deletionTimestamp="2026-01-01T00:00:00Z")
    replicas = shop.fleet.replicas()
    assert replicas is not None
    assert (replicas.current, replicas.ready, replicas.pending, replicas.absent) == (4, 2, 2, 0)
    assert (replicas.ages.keys(), replicas.marked) == ({"a", "b", "c"}, {"c"})


async def test_a_number_that_was_just_set_counts_until_the_watch_shows_it(shop: Shop) -> None:
    shop.deployment(1, 1)
    await shop.fleet.resize(3, (), decided(1, 3))
    await asyncio.gather(*shop.fleet.close())
    assert shop.api.calls == [("scale", "orders-worker", 3), ("event", "ScaledUp")]
    assert shop.current == 3
    shop.deployment(1, 1)  # an event from before the change
    assert shop.current == 3
    shop.deployment(5, 3)  # somebody else has changed it since
    assert shop.current == 5


async def test_a_busy_pod_that_goes_before_the_change_of_the_number_returns_is_told(shop: Shop) -> None:
    shop.deployment(2, 1)
    for name in ("busy", "drained"):
        shop.pod(name)
    departures = shop.fleet._care.departures
    departures.seen([WorkerSample("busy", registered=True, busy=1), WorkerSample("drained", registered=True)])
    shop.api.meanwhile = lambda: shop.store.forget_pod(KEY, "busy")
    await shop.fleet.resize(1, ["drained"], decided(2, 1))
    await asyncio.gather(*shop.fleet.close())
    assert departures.wrong(shop.store.pods(KEY).keys(), shop.clock.now()) == [WrongDeparture("busy", 1)]


async def test_a_number_that_was_set_is_that_of_one_deployment(shop: Shop) -> None:
    shop.deployment(1, 1)
    shop.api.generation = 40
    await shop.fleet.resize(3, (), decided(1, 3))
    await asyncio.gather(*shop.fleet.close())
    assert shop.current == 3
    shop.store.remove("Deployment", shop.store.deployments[KEY])
    shop.deployment(1, 1, uid="made-again")
    assert shop.current == 1, "its generations begin anew"


def live(replicas: int, version: str, uid: str = DEPLOYMENT_UID) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "resourceVersion": version}, "spec": {"replicas": replicas}}


async def test_a_larger_number_follows_only_the_number_that_the_look_has_seen(shop: Shop) -> None:
    shop.deployment(1, 1, version="5")
    assert shop.current == 1
    shop.api.live = live(20, "7")
    with pytest.raises(ApiError, match="modified"):
        await shop.fleet.resize(3, (), decided(1, 3))
    assert not shop.api.calls, "seventeen pods would have gone, busy or not"
    shop.api.live = live(1, "8")  # only its status has changed
    await shop.fleet.resize(3, (), decided(1, 3))
    assert ("scale", "orders-worker", 3) in shop.api.calls
    await asyncio.gather(*shop.fleet.close())


async def test_a_smaller_number_is_for_the_version_that_the_look_has_seen(shop: Shop) -> None:
    shop.deployment(3, 1, version="5")
    assert shop.current == 3
    shop.deployment(3, 2, version="6")  # another template: a rollout has begun since
    shop.api.live = live(3, "6")
    with pytest.raises(ApiError, match="modified"):
        await shop.fleet.resize(1, ("a", "b"), decided(3, 1))
    assert not shop.api.calls


async def test_a_deployment_that_goes_during_a_look_is_an_error_in_words(shop: Shop) -> None:
    shop.deployment(1, 1)
    shop.store.remove("Deployment", shop.store.deployments[KEY])
    with pytest.raises(ApiError, match="the Deployment is gone"):
        await shop.fleet.resize(3, (), decided(1, 3))
    assert not shop.api.calls


async def test_a_pod_that_is_gone_cannot_be_marked(shop: Shop) -> None:
    shop.deployment(1, 1)
    shop.pod("a")
    shop.api.refusal = ApiError(404, "pods not found")
    assert not await shop.fleet.mark("a")
    replicas = shop.fleet.replicas()
    assert replicas is not None
    assert replicas.ages == {}, "counted as one that goes, it would take another pod with it"


async def test_a_mark_that_is_refused_is_an_error_and_an_unmark_is_not(shop: Shop) -> None:
    shop.api.refusal = ApiError(500, "the server is overloaded")
    with pytest.raises(ApiError):
        await shop.fleet.mark("a")
    await shop.fleet.unmark("a")


def test_a_restart_takes_its_times_from_the_status(shop: Shop) -> None:
    wall = shop.clock.wall
    told = {"lastActiveTime": rfc3339(wall(NOW - 200)), "panicUntil": rfc3339(wall(NOW + 40))}
    shop.status(autoscaler=told)
    state = shop.fleet.initial_state(3, NOW)
    assert (state.last_active, state.panic_until, state.last_current) == (NOW - 200, NOW + 40, 3)
    held = decide(sample(current=3), state, spec(), NOW)
    assert (held.desired, held.panicking) == (3, True), "the panic goes on, and nothing is taken away"


@pytest.mark.parametrize("field", ["lastActiveTime", "panicUntil"])
@pytest.mark.parametrize("value", ["2999-01-01T00:00:00Z", "yesterday", None])
def test_a_time_of_the_status_that_cannot_be_is_dropped(shop: Shop, field: str, value: str | None) -> None:
    shop.status(autoscaler={field: value})
    assert shop.fleet.initial_state(3, NOW) == ScalingState.initial(3, NOW)
