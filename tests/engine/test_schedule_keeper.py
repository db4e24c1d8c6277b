"""`ScheduleKeeper` on a real Redis: a late renewal of the Lease, queues that go, and a TaskQueue that is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from taskfleet import TaskQueue
from taskfleet.protocol.schedules import Entry
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi, NotLeadingError
from taskfleet_operator.control.redis import schedule_keeper
from taskfleet_operator.control.redis.redis_credentials import RedisCredentials
from taskfleet_operator.control.redis.schedule_keeper import ScheduleKeeper
from taskfleet_operator.control.status.status_writer import StatusWriter
from taskfleet_operator.control.store.cluster_store import ClusterStore
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.engine.conftest import until
from tests.support.manifests import SCHEDULE, changed

KEY = ("shop", "orders")


class Api:
    """Writes while `leads`; the cluster has the statuses that were written."""

    def __init__(self, store: ClusterStore) -> None:
        self.leads = True
        self.refused = asyncio.Event()
        self.version = 1
        self._store = store

    def permit(self, subject: str) -> float:
        if not self.leads:
            self.refused.set()
            raise NotLeadingError(subject)
        return 60.0

    async def patch_status(self, namespace: str, name: str, status: dict[str, Any]) -> dict[str, Any]:
        self.permit("status")
        self.version += 1
        body = self._store.queues[namespace, name]
        fresh = {**body.get("status", {}), **status}
        made = {**body, "status": {name: value for name, value in fresh.items() if value is not None}}
        made["metadata"] = body["metadata"] | {"resourceVersion": str(self.version)}
        self._store.put("TaskQueue", made)
        return made

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return self._store.queues.get((namespace, name))


class Kept:
    """A keeper with a Redis."""

    def __init__(self, queue: TaskQueue) -> None:
        self.broker = queue.broker
        self.store = ClusterStore()
        self.api = Api(self.store)
        self.credentials = RedisCredentials(queue.broker.url, queue.broker.prefix, None, None, 4, 5.0, 5.0)
        self.keeper = self._keeper()

    def _keeper(self) -> ScheduleKeeper:
        cluster = cast("KubernetesApi", self.api)
        return ScheduleKeeper(cluster, self.store, StatusWriter(cluster, self.store))

    async def next_term(self) -> None:
        """The keeper of the next leader, which knows only what is in the cluster."""
        await self.keeper.close()
        self.keeper = self._keeper()

    def ensure(self, *on: str, queues: tuple[str, ...] = ("default", "mail")) -> None:
        """A schedule on each of these queues."""
        named = [{"name": name} for name in queues]
        body = changed({"spec.schedules": [SCHEDULE | {"name": f"s{n}", "queue": name} for n, name in enumerate(on)]})
        body["spec"]["queues"] = named
        body["metadata"] = {"name": "orders", "namespace": "shop", "uid": "uid-1", "resourceVersion": "1"}
        if (before := self.store.queues.get(KEY)) is not None:
            body = {**body, "status": before.get("status", {})}
        self.store.put("TaskQueue", body)
        parsed = TaskQueueResource.model_validate({name: body[name] for name in ("metadata", "spec")})
        self.keeper.ensure(KEY, parsed, self.credentials)

    async def there(self) -> list[Entry]:
        return list(await self.broker.schedules.entries())

    async def are_at(self, *partitions: str) -> None:
        async def so() -> bool:
            return [entry.partition for entry in await self.there()] == list(partitions)

        await until(so, f"schedules at {partitions}")

    async def tells(self, reason: str) -> None:
        def so() -> bool:
            conditions = self.store.queues[KEY].get("status", {}).get("conditions", ())
            return any(one["reason"] == reason for one in conditions if one["type"] == "SchedulesReady")

        await until(so, reason)


@pytest.fixture
async def kept(queue: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    monkeypatch.setattr(schedule_keeper, "_REFUSED_SECONDS", 0.05)
    kept = Kept(queue)
    yield kept
    kept.api.leads = True
    await kept.keeper.close()
    for entry in await kept.there():
        await queue.broker.schedules.remove(entry.partition, entry.name)


async def test_a_refused_write_is_made_when_this_process_leads_again(kept: Kept) -> None:
    kept.api.leads = False
    kept.ensure("default")
    await asyncio.wait_for(kept.api.refused.wait(), 60)
    assert await kept.there() == []
    kept.api.leads = True
    await kept.are_at("default")
    await kept.tells("InSync")


async def test_a_refused_removal_at_deletion_is_made_later(kept: Kept) -> None:
    kept.ensure("default")
    await kept.tells("InSync")
    kept.store.remove("TaskQueue", kept.store.queues[KEY])
    kept.api.leads = False
    kept.keeper.drop(KEY, gone=True)
    await asyncio.wait_for(kept.api.refused.wait(), 60)
    await kept.are_at("default")
    kept.api.leads = True
    await kept.are_at()


async def test_a_task_that_has_ended_is_started_by_the_next_ensure(kept: Kept) -> None:
    kept.ensure("default")
    await kept.tells("InSync")
    known = kept.keeper._kept[KEY]
    assert known.task is not None
    known.task.cancel()
    await asyncio.wait([known.task])
    await kept.broker.schedules.remove((await kept.there())[0].partition, "s0")
    kept.ensure("default")
    await kept.are_at("default")


async def test_one_without_schedules_is_looked_at_once(kept: Kept) -> None:
    kept.ensure()
    known = kept.keeper._kept[KEY]
    await until(lambda: known.idle and known.task is not None and known.task.done(), "the look")
    first = known.task
    kept.ensure()
    assert known.task is first
    assert not kept.keeper._gates, "nobody is left who looks"


async def test_the_last_schedule_goes_with_its_queue(kept: Kept) -> None:
    kept.ensure("mail")
    await kept.are_at("mail")
    kept.ensure(queues=("default",))
    await kept.are_at()


async def test_the_next_leader_removes_what_the_status_knows_of(kept: Kept) -> None:
    kept.ensure("mail")
    await kept.tells("InSync")
    await kept.next_term()
    kept.ensure(queues=("default",))
    await kept.are_at()
    await kept.tells("NoSchedules")


async def test_a_queue_that_goes_together_with_the_taskqueue_has_no_schedule_left(kept: Kept) -> None:
    kept.ensure("mail")
    await kept.tells("InSync")
    kept.api.leads = False  # the change of the spec is not carried out before the deletion
    kept.ensure(queues=("default",))
    kept.store.remove("TaskQueue", kept.store.queues[KEY])
    kept.keeper.drop(KEY, gone=True)
    kept.api.leads = True
    await kept.are_at()


async def test_looks_at_one_redis_share_a_gate_whatever_the_login(kept: Kept) -> None:
    gate = kept.keeper._gate(kept.credentials)
    other = RedisCredentials(kept.credentials.url.replace("://", "://user:secret@"), "p", None, None, 4, 5.0, 5.0)
    assert kept.keeper._gate(other) is gate
