"""Purges of several TaskQueues on one queue: one waits for the other that needs the keys, and never both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, cast

import pytest

from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from taskfleet_operator.control.redis.purging import FINALIZER, Purging
from taskfleet_operator.control.status.conditions import Condition
from taskfleet_operator.control.status.status_writer import StatusWriter
from taskfleet_operator.control.store.cluster_store import ClusterStore, Key
from taskfleet_operator.scaling.overrides import ABANDON_PURGE
from tests.support.manifests import changed

KEY = ("shop", "orders")
GOING = {"deletionTimestamp": "2026-11-25T12:00:00Z", "finalizers": [FINALIZER]}


class Status:
    """The first condition that is told."""

    def __init__(self) -> None:
        self.told: asyncio.Future[Condition] = asyncio.get_running_loop().create_future()

    async def write(self, _key: Key, _fields: Any, wanted: Iterable[Condition], **_options: Any) -> None:
        if not self.told.done():
            self.told.set_result(next(iter(wanted)))


def body(namespace: str, name: str, metadata: dict[str, Any], policy: str = "Purge") -> dict[str, Any]:
    url = "redis://127.0.0.1:1/0"  # nobody listens there
    made = changed({"spec.redis.url": url, "spec.deletionPolicy": policy, "spec.redis.connectTimeoutSeconds": 1})
    made["metadata"] = {"namespace": namespace, "name": name, "uid": f"uid-{name}"} | metadata
    return made


@pytest.mark.parametrize(
    ("metadata", "policy", "reason"),
    [
        ({}, "Purge", "QueueShared"),
        ({"finalizers": [FINALIZER]}, "Purge", "QueueShared"),
        (GOING, "Purge", "RedisUnreachable"),
        (GOING, "Retain", "QueueShared"),
        (GOING | {"annotations": {ABANDON_PURGE: "true"}}, "Purge", "QueueShared"),
        (GOING | {"finalizers": ["foregroundDeletion"]}, "Purge", "QueueShared"),
    ],
    ids=["stays", "is held", "is purged, too", "leaves its keys", "is told to leave its keys", "was never held"],
)
async def test_a_purge_waits_for_another_unless_its_keys_go_as_well(
    metadata: dict[str, Any], policy: str, reason: str
) -> None:
    class Api:
        def permit(self, subject: str) -> float:
            return 60.0

    store, status = ClusterStore(), Status()
    store.put("TaskQueue", mine := body("shop", "orders", GOING))
    store.put("TaskQueue", body("mail", "other", metadata, policy))
    purging = Purging(cast("KubernetesApi", Api()), store, cast("StatusWriter", status))
    purging.ensure(KEY, mine)
    async with asyncio.timeout(30):
        told = await status.told
    await purging.close()
    assert (told.type, told.status, told.reason) == ("Purged", False, reason)


@pytest.mark.parametrize(
    ("spec", "said"),
    [({}, "served by TaskQueue mail/other:"), ({"worker": None}, "mail/other, whose spec cannot be read:")],
)
async def test_a_taskqueue_of_another_shard_keeps_its_queue(spec: dict[str, Any], said: str) -> None:
    other = body("mail", "other", {}, "Retain")
    other["spec"] |= spec

    class Api:
        def permit(self, subject: str) -> float:
            return 60.0

        async def list_pages(self, _version: str, _kind: str, namespace: str | None) -> AsyncIterator[Any]:
            assert namespace in ("shop", "mail")
            yield [one for one in (mine, other) if one["metadata"]["namespace"] == namespace], "1"

    store, status = ClusterStore(), Status()
    store.put("TaskQueue", mine := body("shop", "orders", GOING))
    purging = Purging(cast("KubernetesApi", Api()), store, cast("StatusWriter", status), ("shop", "mail"))
    purging.ensure(KEY, mine)
    async with asyncio.timeout(30):
        told = await status.told
    await purging.close()
    assert told.reason == "QueueShared"
    assert said in told.message
