"""The loops of all TaskQueues: they start, move to other credentials, and end, and no call of them waits."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from taskfleet.errors import BrokerConnectionError
from taskfleet.protocol.figures import Figures, Horizons
from taskfleet.protocol.stats import ServerMemory
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.keys import FleetKeys
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet_operator.control.api.kubernetes_api import KubernetesApi
from taskfleet_operator.control.fleet.queue_sharing import joined
from taskfleet_operator.control.fleet.scaling_loops import ScalingLoops
from taskfleet_operator.control.redis import redis_place
from taskfleet_operator.control.redis.redis_credentials import RedisCredentials
from taskfleet_operator.control.status.status_writer import StatusWriter
from taskfleet_operator.control.store.cluster_store import ClusterStore
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import GOOD
from tests.unit.operator.builders import STATS, controlled_by

KEY = ("shop", "orders")


class SilentBroker:
    """A Redis that never announces anything, and may hang at a read or at its end."""

    def __init__(self) -> None:
        self.read = asyncio.Event()
        self.hangs = False
        self.server = ""
        self.closed = asyncio.Event()

    async def figures(self, horizons: Mapping[str, Horizons], *, workers: bool = True) -> Figures:
        self.read.set()
        if self.hangs:
            await asyncio.Event().wait()
        return Figures(dict.fromkeys(horizons, STATS), [])

    fleet = FleetKeys("app")

    def permitted(self, permit: Callable[[], float]) -> SilentBroker:
        return self

    async def call(self, call: Any) -> Any:
        await asyncio.Event().wait()

    async def server_id(self) -> str:
        return self.server

    async def memory(self) -> list[ServerMemory]:
        return []

    async def activity(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async def close(self) -> None:
        self.closed.set()


@dataclass(frozen=True)
class Access(RedisCredentials):
    """Credentials that connect to this broker."""

    broker: SilentBroker | None = field(default=None, hash=False, compare=False)

    def connect(self) -> RedisBroker:
        return cast("RedisBroker", self.broker)


def credentials(user: str = "worker", **digests: str) -> tuple[RedisCredentials, SilentBroker]:
    broker = SilentBroker()
    return Access("redis://redis:6379/0", "shop", user, None, 4, 5.0, 5.0, digests, broker), broker


def queue(uid: str, name: str = "orders", **autoscaler: Any) -> TaskQueueResource:
    spec = GOOD["spec"] | {"autoscaler": GOOD["spec"].get("autoscaler", {}) | autoscaler}
    metadata = {"name": name, "namespace": "shop", "uid": uid}
    return TaskQueueResource.model_validate(GOOD | {"metadata": metadata, "spec": spec})


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
    async with asyncio.timeout(30):
        await broker.read.wait()


async def test_a_hundred_rounds_of_delete_and_create(loops: ScalingLoops) -> None:
    for number in range(100):
        access, broker = credentials()
        broker.hangs = bool(number % 2)
        loops.ensure(KEY, queue(str(number)), access)
        await reading(broker)
        loops.wake(KEY)  # a wake together with the end is what loses a cancellation
        loops.drop(KEY)
        async with asyncio.timeout(30):
            await broker.closed.wait()


async def test_other_credentials_do_not_end_the_loop(loops: ScalingLoops) -> None:
    (old, before), (new, after) = credentials("old"), credentials("new")
    loops.ensure(KEY, queue("one"), old)
    await reading(before)
    loops.ensure(KEY, queue("one"), new)
    await reading(after)
    async with asyncio.timeout(30):
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
    async with asyncio.timeout(30):
        assert await loops.close(), "all have ended before they were given up"
    assert broker.closed.is_set()


async def test_equal_logins_share_a_connection_though_their_secrets_have_other_names(loops: ScalingLoops) -> None:
    (one, first), (two, second) = credentials(**{"a/url": "1"}), credentials(**{"b/url": "1"})
    loops.ensure(KEY, queue("one"), one)
    loops.ensure(("shop", "other"), queue("two", "other"), two)
    await reading(first)
    assert len(loops.redis_figures()) == 1
    loops.drop(KEY)
    assert not first.closed.is_set()
    async with asyncio.timeout(30):
        while not (reads := loops.redis_figures()[0].reads):  # noqa: ASYNC110 - counted when the reading has ended
            await asyncio.sleep(0)
    loops.drop(("shop", "other"))
    assert (loops.redis_figures(), loops.figures.closed["reads"]) == ([], reads)
    async with asyncio.timeout(30):
        await first.closed.wait()
    assert not second.read.is_set()


async def test_a_redis_is_up_while_it_answers_and_how_full_it_is_is_told_while_it_says_so(
    loops: ScalingLoops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_place, "_MEMORY_SECONDS", 0.001)
    access, broker = credentials()
    full = [ServerMemory("redis:6379", 80, 100)]
    refused, away = CallRefusedError("NOPERM"), BrokerConnectionError("away")
    answers: dict[str, Any] = {"it says so": full, "away": away, "we may not ask": refused, "back": full}
    told: dict[str, Any] = {}
    answer: list[Any] = [full]

    async def memory() -> list[ServerMemory]:
        if isinstance(answer[0], Exception):
            raise answer[0]
        return list(answer[0])

    monkeypatch.setattr(broker, "memory", memory)
    loops.ensure(KEY, queue("one"), access)
    for name, given in answers.items():
        answer[0] = given
        before = loops.redis_figures()[0].servers
        async with asyncio.timeout(30):
            while (found := loops.redis_figures()[0].servers) is None or found == before:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        told[name] = found.reachable, list(found.servers)
    assert told == {
        "it says so": (True, full), "away": (False, []), "we may not ask": (True, []), "back": (True, full),
    }  # fmt: skip


async def test_taskqueues_of_one_queue_divide_its_demand_though_their_logins_differ(loops: ScalingLoops) -> None:
    (mine, _), (theirs, _) = credentials("mine"), credentials("theirs")
    loops.ensure(KEY, queue("one", maxReplicas=10), mine)
    fleet = loops.fleet(KEY)
    assert fleet is not None
    (share, *_) = [target.share for target in fleet.order().queues]
    assert (share.low, share.high) == (0.0, 1.0)
    other = ("shop", "other")
    loops.ensure(other, queue("two", "other", maxReplicas=30), theirs)
    parts = {key: one.order().queues[0].share for key in (KEY, other) if (one := loops.fleet(key))}
    assert (parts[KEY].high - parts[KEY].low, parts[other].high - parts[other].low) == (0.25, 0.75)
    loops.drop(other)
    assert fleet.order().queues[0].share.high == 1.0


async def test_two_addresses_of_one_server_are_one_redis_once_it_has_told_its_id(loops: ScalingLoops) -> None:
    (mine, first), (theirs, second) = credentials("mine"), credentials("theirs")
    first.server = second.server = "a" * 40
    loops.ensure(KEY, queue("one", maxReplicas=10), mine)
    elsewhere = dataclasses.replace(theirs, url="redis://cache:6379/0")
    loops.ensure(("shop", "other"), queue("two", "other", maxReplicas=30), elsewhere)
    fleet = loops.fleet(KEY)
    assert fleet is not None
    async with asyncio.timeout(30):
        while fleet.order().queues[0].share.width != 0.25:  # noqa: ASYNC110 - a task of the loops learns it
            await asyncio.sleep(0)
    loops.ensure(("shop", "other"), queue("two", "other"), dataclasses.replace(theirs, url="redis://cache:6379/1"))
    assert fleet.order().queues[0].share.width == 1.0


def test_places_with_a_mark_in_common_are_one_site() -> None:
    marks = {"a": ["1"], "b": ["2"], "c": ["2", "1"], "d": ["3"]}
    assert sorted(map(sorted, joined(marks))) == [["a", "b", "c"], ["d"]]


PREFIX = "autoscaling.taskfleet.io"


@pytest.mark.parametrize(
    ("annotations", "autoscaler", "part"),
    [
        ({}, {}, 0.5),
        ({f"{PREFIX}/paused": "true"}, {}, 0.0),
        ({f"{PREFIX}/paused-replicas": "0"}, {}, 0.0),
        ({f"{PREFIX}/paused-replicas": "30"}, {}, 0.75),
        ({f"{PREFIX}/paused-scale-out": "true"}, {}, 0.0),
        ({f"{PREFIX}/paused-scale-in": "true"}, {}, 0.5),
        ({}, {"mode": "Recommend"}, 0.0),
        ({f"{PREFIX}/paused-replicas": "30"}, {"mode": "Disabled"}, 1 / 11),
    ],
)
async def test_who_adds_no_replicas_is_given_no_part_that_it_cannot_run(
    loops: ScalingLoops, annotations: dict[str, str], autoscaler: dict[str, Any], part: float
) -> None:
    """The first task of an empty queue would otherwise be left to a TaskQueue that is paused at nothing."""
    mine, _ = credentials()
    loops.ensure(KEY, queue("queue", maxReplicas=10), mine)
    other = queue("two", "other", maxReplicas=10, **autoscaler)
    other.metadata.annotations.update(annotations)
    loops.ensure(("shop", "other"), other, mine)
    parts = [fleet.order().queues[0].share.width for key in (KEY, ("shop", "other")) if (fleet := loops.fleet(key))]
    assert parts == pytest.approx([1 - part, part])


async def test_a_number_that_somebody_else_sets_divides_the_queues_again(loops: ScalingLoops) -> None:
    mine, _ = credentials()
    recommending = queue("queue", mode="Recommend", maxReplicas=10)
    loops.ensure(KEY, recommending, mine)
    loops.ensure(("shop", "other"), queue("two", "other", maxReplicas=10), mine)
    fleet = loops.fleet(KEY)
    assert fleet is not None
    assert fleet.order().queues[0].share.width == pytest.approx(1 / 11)
    owner = controlled_by("taskfleet.io/v1alpha1", "TaskQueue", "orders", "queue")
    metadata = {"namespace": "shop", "name": "orders-worker", "uid": "deployment", "generation": 2}
    loops._store.put("Deployment", {"metadata": metadata | owner, "spec": {"replicas": 10}})
    loops.ensure(KEY, recommending, mine)
    assert fleet.order().queues[0].share.width == 0.5
