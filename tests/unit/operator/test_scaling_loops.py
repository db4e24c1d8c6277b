"""The loops of all TaskQueues: they start, move to other credentials, and end, and no call of them waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet_operator.control.cluster_store import ClusterStore
from taskfleet_operator.control.kubernetes_api import KubernetesApi
from taskfleet_operator.control.redis_credentials import RedisCredentials
from taskfleet_operator.control.scaling_loops import ScalingLoops
from taskfleet_operator.control.status_writer import StatusWriter
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD
from tests.unit.operator.builders import STATS, controlled_by

KEY = ("shop", "orders")


class SilentBroker:
    """A Redis that never announces anything, and may hang at a read or at its end."""

    def __init__(self) -> None:
        self.read = asyncio.Event()
        self.hangs = False
        self.closed = asyncio.Event()

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        self.read.set()
        if self.hangs:
            await asyncio.Event().wait()
        return dict.fromkeys(queues, STATS)

    async def workers(self) -> list[WorkerInfo]:
        return []

    async def activity(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async def close(self) -> None:
        self.closed.set()


class Access:
    """Credentials that connect to this broker."""

    def __init__(self) -> None:
        self.broker = SilentBroker()

    def connect(self) -> SilentBroker:
        return self.broker


def credentials() -> tuple[RedisCredentials, SilentBroker]:
    access = Access()
    return cast("RedisCredentials", access), access.broker


def queue(uid: str) -> TaskQueueResource:
    return TaskQueueResource.model_validate(GOOD | {"metadata": {"name": "orders", "namespace": "shop", "uid": uid}})


@pytest.fixture
async def loops() -> AsyncIterator[ScalingLoops]:
    class Api:
        async def patch_status(self, namespace: str, name: str, status: dict[str, Any]) -> dict[str, Any]:
            return {"metadata": {}}

    store, api = ClusterStore(), cast("KubernetesApi", Api())
    store.put("TaskQueue", {"metadata": {"namespace": "shop", "name": "orders", "uid": "queue"}})
    owner = controlled_by("taskfleet.io/v1alpha1", "TaskQueue", "orders", "queue")
    metadata = {"namespace": "shop", "name": "orders-worker", "uid": "deployment", "generation": 1}
    store.put("Deployment", {"metadata": metadata | owner, "spec": {"replicas": 1}})
    made = ScalingLoops(api, store, StatusWriter(api, store))
    yield made
    await made.close()


async def reading(broker: SilentBroker) -> None:
    async with asyncio.timeout(5):
        await broker.read.wait()


async def test_a_hundred_rounds_of_delete_and_create(loops: ScalingLoops) -> None:
    for number in range(100):
        access, broker = credentials()
        broker.hangs = bool(number % 2)
        loops.ensure(KEY, queue(str(number)), access)
        await reading(broker)
        loops.wake(KEY)  # a wake together with the end is what loses a cancellation
        loops.drop(KEY)
        async with asyncio.timeout(5):
            await broker.closed.wait()


async def test_other_credentials_do_not_end_the_loop(loops: ScalingLoops) -> None:
    (old, before), (new, after) = credentials(), credentials()
    loops.ensure(KEY, queue("one"), old)
    await reading(before)
    loops.ensure(KEY, queue("one"), new)
    await reading(after)
    async with asyncio.timeout(5):
        await before.closed.wait()
    assert not after.closed.is_set()
    told = loops.fleet(KEY)
    loops.ensure(KEY, queue("one"), new)
    assert told is not None
    assert loops.fleet(KEY) is told, "what it has learnt is kept"


async def test_a_taskqueue_that_was_made_again_gets_a_loop_of_its_own(loops: ScalingLoops) -> None:
    access, broker = credentials()
    loops.ensure(KEY, queue("one"), access)
    await reading(broker)
    before = loops.fleet(KEY)
    loops.ensure(KEY, queue("two"), access)
    assert loops.fleet(KEY) is not before


async def test_the_end_waits_for_a_hanging_read_no_longer_than_it_must(loops: ScalingLoops) -> None:
    access, broker = credentials()
    broker.hangs = True
    loops.ensure(KEY, queue("one"), access)
    await reading(broker)
    async with asyncio.timeout(5):
        await loops.close()
    assert broker.closed.is_set()
