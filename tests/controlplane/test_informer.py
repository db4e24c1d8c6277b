"""The informers with a real API server, through a proxy that cuts, silences and refuses what they ask."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet.cancellation import end
from taskfleet_operator.children import KINDS, children_of
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from taskfleet_operator.control.store.cluster_store import ClusterStore, Key
from taskfleet_operator.control.store.informer import Informers
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.api_proxy import ApiProxy, Call, refusal
from tests.support.manifests import GOOD

PLURALS = {kind.kind: kind.plural for kind in KINDS} | {
    "TaskQueue": "taskqueues",
    "ReplicaSet": "replicasets",
    "Pod": "pods",
}


@pytest.fixture
def proxy(control_plane: Path, tmp_path: Path) -> Iterator[ApiProxy]:
    with ApiProxy(control_plane, tmp_path) as running:
        yield running


class Space:
    """A namespace with TaskQueues and their children, as an operator would have made them."""

    def __init__(self, kubectl: ClusterCommand, namespace: str) -> None:
        self.kubectl = kubectl
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        return self.kubectl(*arguments, "--namespace", self.namespace, stdin=stdin)

    def queue(self, name: str, **labels: str) -> None:
        self("apply", "-f", "-", stdin=json.dumps(GOOD | {"metadata": {"name": name, "labels": labels}}))
        body = self.kubectl.json("get", "tq", name, "--namespace", self.namespace)
        queue = TaskQueueResource.model_validate({part: body[part] for part in ("metadata", "spec")})
        made = {"apiVersion": "v1", "kind": "List", "items": children_of(queue)}
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(made))

    def key(self, name: str) -> Key:
        return self.namespace, name


@pytest.fixture
def space(crd: None, kubectl: ClusterCommand, namespace: str) -> Space:
    return Space(kubectl, namespace)


class Following:
    def __init__(self, api: KubernetesApi, space: Space, **options: Any) -> None:
        self.store = ClusterStore()
        self.changes: list[tuple[str, set[Key]]] = []
        self.informers = Informers(
            api,
            self.store,
            lambda kind, keys: self.changes.append((kind, keys)),
            namespaces=[space.namespace],
            **options,
        )

    def lists(self, kind: str) -> int:
        return sum(informer.lists for informer in self.informers.all if informer.watched.kind == kind)

    def object(self, kind: str, key: Key) -> Any:
        if kind == "TaskQueue":
            return self.store.queues.get(key)
        if kind == "ReplicaSet":
            return (self.store.replica_sets(key) or [None])[0]
        if kind == "Pod":
            return next(iter(self.store.pods(key).values()), None)
        return self.store.children[kind].get(key)


@contextlib.asynccontextmanager
async def following(proxy: ApiProxy, space: Space, **options: Any) -> AsyncIterator[Following]:
    api = await KubernetesApi.connect(str(proxy.kubeconfig))
    follower = Following(api, space, **options)
    running = asyncio.create_task(follower.informers.run())
    try:
        yield follower
    finally:
        await end([running])
        await api.close()


async def until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        await asyncio.sleep(0.02)
    return value


def expired(call: Call) -> Any:
    return refusal(410, "too old resource version") if call.is_watch else None


@pytest.mark.parametrize("kind", PLURALS)
async def test_an_object_that_goes_while_its_watch_is_away_is_gone_from_the_store(
    kind: str, proxy: ApiProxy, space: Space
) -> None:
    space.queue("orders")
    key = space.key("orders")
    async with following(proxy, space) as followed:
        body = await until(lambda: followed.object(kind, key), "it is listed")
        await until(lambda: proxy.watches() == len(followed.informers.all), "everything is watched")
        proxy.refuse = lambda _call: refusal(503)
        proxy.cut()
        name, uid = body["metadata"]["name"], body["metadata"]["uid"]
        now = ("--grace-period=0", "--force") if kind == "Pod" else ()
        space("delete", PLURALS[kind], name, "--wait=true", *now)
        assert followed.object(kind, key)["metadata"]["uid"] == uid
        before = followed.lists(kind)
        proxy.refuse = lambda call: expired(call) if followed.lists(kind) == before else None

        def gone() -> bool:
            found = followed.object(kind, key)
            return found is None or found["metadata"]["uid"] != uid

        await until(gone, "the store has forgotten it")
        assert followed.changes[-1][1] == {key} or kind in ("ReplicaSet", "Pod")
        assert followed.lists(kind) > before


async def test_a_watch_that_breaks_is_opened_where_it_stopped(proxy: ApiProxy, space: Space) -> None:
    space.queue("orders")
    key = space.key("orders")
    async with following(proxy, space) as followed:
        await until(lambda: proxy.watches() == len(followed.informers.all), "everything is watched")
        proxy.refuse = lambda _call: refusal(503)
        proxy.cut()
        space("delete", "configmap", "orders-worker")
        space("annotate", "deployment", "orders-worker", "example.com/note=seen")
        proxy.refuse = lambda _call: None
        await until(lambda: followed.object("ConfigMap", key) is None, "the deletion is seen")
        await until(
            lambda: "example.com/note" in followed.object("Deployment", key)["metadata"].get("annotations", {}),
            "the change is seen",
        )
        assert {followed.lists(kind) for kind in PLURALS} == {1}


async def test_a_silent_watch_is_opened_again(proxy: ApiProxy, space: Space) -> None:
    space.queue("orders")
    key = space.key("orders")
    async with following(proxy, space, silence_seconds=2.0) as followed:
        await until(lambda: proxy.watches() == len(followed.informers.all), "everything is watched")
        before = {one: one.watches for one in followed.informers.all}
        silenced = time.monotonic()
        proxy.silent = lambda call: call.at < silenced
        space("delete", "configmap", "orders-worker")
        await until(lambda: followed.object("ConfigMap", key) is None, "the deletion is seen")
        await until(lambda: all(one.watches > opened for one, opened in before.items()), "each opens another watch")


async def test_every_page_of_a_list_is_read(proxy: ApiProxy, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskfleet_operator.control.api.kubernetes_api._PAGE", 2)
    names = [f"queue-{number}" for number in range(5)]
    for name in names:
        space.queue(name)
    async with following(proxy, space) as followed:
        await followed.informers.synced()
        assert set(followed.store.queues) == set(map(space.key, names))
        assert set(followed.store.deployments) == set(map(space.key, names))
    pages = [call for call in proxy.calls if "taskqueues" in call.path and not call.is_watch]
    assert [call.query["limit"] for call in pages] == ["2", "2", "2"]


async def test_only_selected_taskqueues_are_served(proxy: ApiProxy, space: Space) -> None:
    space.queue("ours", shard="a")
    space.queue("theirs", shard="b")
    async with following(proxy, space, queue_selector="shard=a") as followed:
        await followed.informers.synced()
        assert set(followed.store.queues) == set(followed.store.deployments) == {space.key("ours")}
        space("label", "tq", "theirs", "shard=a", "--overwrite")
        await until(lambda: space.key("theirs") in followed.store.deployments, "it has moved here")
        space("label", "tq", "ours", "shard=b", "--overwrite")
        await until(lambda: space.key("ours") not in followed.store.queues, "it has moved away")


async def test_a_definition_that_comes_later_is_served(
    proxy: ApiProxy, space: Space, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.refuse = lambda call: refusal(404) if "taskqueues" in call.path else None
    space.queue("orders")
    async with following(proxy, space) as followed:
        await until(lambda: followed.lists("ReplicaSet"), "the others are listed")
        await until(lambda: "apply crds/taskqueue.yaml" in caplog.text, "the log says what is missing")
        assert not followed.store.synced
        proxy.refuse = lambda _call: None
        await until(lambda: followed.store.synced, "it is served")
        assert space.key("orders") in followed.store.deployments


async def test_a_label_does_not_make_an_object_a_child(proxy: ApiProxy, space: Space) -> None:
    space.queue("orders")
    space.queue("bills")
    async with following(proxy, space) as followed:
        await followed.informers.synced()
        space("label", "service", "orders-worker", "app.kubernetes.io/instance=bills", "--overwrite")
        await until(
            lambda: (
                followed.object("Service", space.key("orders"))["metadata"]["labels"]["app.kubernetes.io/instance"]
                == "bills"
            ),
            "the change is seen, under its owner",
        )
        assert followed.object("Service", space.key("bills"))["metadata"]["name"] == "bills-worker"
        assert ("Service", {space.key("orders")}) in followed.changes


async def test_a_taskqueue_that_is_made_again_has_no_children_yet(proxy: ApiProxy, space: Space) -> None:
    space.queue("orders")
    async with following(proxy, space) as followed:
        await followed.informers.synced()
        first = followed.store.queues[space.key("orders")]["metadata"]["uid"]
        space("delete", "tq", "orders", "--cascade=orphan")
        space("apply", "-f", "-", stdin=json.dumps(GOOD))
        await until(
            lambda: followed.store.queues.get(space.key("orders"), {}).get("metadata", {}).get("uid", first) != first,
            "the new one is seen",
        )
        assert not any(followed.object(kind.kind, space.key("orders")) for kind in KINDS)
