"""`updateStrategy: Drain` beside a model of Kubernetes' controllers, at random moments: no busy pod is ever removed.

The Deployment's controller and the ReplicaSet's are modelled by their rules (kubernetes/pkg/controller, 1.36); every
call of the operator, every event of a watch and every step of a controller happens at a moment that a seed chooses. The
same with the real controllers is in tests/controlplane/test_rollout.py, with a few moments only.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from taskfleet_operator.autoscaler import WorkerSample
from taskfleet_operator.children.pod_template import ADMITTED
from taskfleet_operator.control.pods.handover import HandoverWaitsError
from taskfleet_operator.control.pods.pod_care import PodCare
from taskfleet_operator.control.pods.rollout import rollout_of
from taskfleet_operator.control.status.events import EventPoster
from taskfleet_operator.control.store.cluster_store import ClusterStore
from taskfleet_operator.scaling.port import ScalingRedis

KEY = ("shop", "orders")
QUEUE, DEPLOYMENT = "queue-uid", "deployment-uid"
TICK_SECONDS = 0.1
SETTLE_SECONDS = 2.0
MOST_TICKS = 20_000


@dataclass
class Pod:
    name: str
    owner: str
    starts_in: int
    admitted: bool = False
    marked: bool = False
    marked_for: int = 0  # the controller of the ReplicaSet sees a mark some time after it was written
    cordoned: bool = False
    works_for: int = 0

    @property
    def runs(self) -> bool:
        return self.starts_in <= 0

    @property
    def ready(self) -> bool:
        return self.runs and self.admitted

    @property
    def busy(self) -> bool:
        return self.works_for > 0


@dataclass
class ReplicaSet:
    uid: str
    age: int
    wanted: int = 0
    available: int = 0  # as its controller has told it
    pods: list[Pod] = field(default_factory=list[Pod])


class World:
    """A cluster with one Deployment, and the operator's care of its pods."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.looking: asyncio.Task[None]
        self.replicas = self.random.choice([1, 2, 3])
        self.template = "v1"
        self.sets: dict[str, ReplicaSet] = {}
        self.tick = 0
        self.made = 0
        self.removed_busy: list[str] = []
        self.store = ClusterStore()
        self.shown: dict[str, list[Callable[[], object]]] = {"Deployment": [], "ReplicaSet": [], "Pod": []}
        self.calls: list[asyncio.Future[None]] = []
        here = cast("Any", self)
        self.events = EventPoster(KEY, QUEUE, here, self.store, here)
        self.start_operator()
        self.put("TaskQueue", QUEUE, KEY[1], None, {})
        self.show_deployment()

    def start_operator(self) -> None:
        """It lists what is there before it does anything."""
        self.catch_up()
        here = cast("Any", self)
        self.care = PodCare(KEY, here, self.store, self.events, here)

    # What the operator calls.

    def now(self) -> float:
        return self.tick * TICK_SECONDS

    async def moment(self) -> None:
        """A call takes as long as the seed says."""
        ends = asyncio.get_running_loop().create_future()
        self.calls.append(ends)
        await ends

    async def set_deletion_cost(self, _namespace: str, name: str, cost: int) -> None:
        await self.moment()
        if pod := self.pods.get(name):
            if pod.marked != (cost < 0):
                pod.marked, pod.marked_for = cost < 0, 0
            self.show_pod(pod)

    async def set_pod_condition(self, _namespace: str, name: str, _kind: str) -> None:
        await self.moment()
        if pod := self.pods.get(name):
            pod.admitted = True
            self.show_pod(pod)

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        assert ttl_seconds > 0
        await self.moment()
        if pod := self.pods.get(name):
            pod.cordoned = True

    async def uncordon(self, name: str) -> None:
        await self.moment()
        if pod := self.pods.get(name):
            pod.cordoned = False

    async def create_event(self, *_: object) -> None: ...

    # What the operator sees.

    @property
    def pods(self) -> dict[str, Pod]:
        return {pod.name: pod for one in self.sets.values() for pod in one.pods}

    def put(self, kind: str, uid: str, name: str, owner: str | None, body: dict[str, Any]) -> None:
        metadata: dict[str, Any] = {"namespace": KEY[0], "name": name, "uid": uid}
        if owner is not None:
            metadata["ownerReferences"] = [{"uid": owner, "controller": True}]
        shown = {"metadata": metadata | body.pop("metadata", {}), **copy.deepcopy(body)}
        if kind in self.shown:
            self.shown[kind].append(lambda: self.store.put(kind, shown))
        else:
            self.store.put(kind, shown)

    @staticmethod
    def template_of(image: str) -> dict[str, Any]:
        return {"spec": {"image": image, "readinessGates": [{"conditionType": ADMITTED}]}}

    def catch_up(self) -> None:
        for news in self.shown.values():
            while news:
                news.pop(0)()

    def show_deployment(self) -> None:
        spec = {"replicas": self.replicas, "template": self.template_of(self.template)}
        self.put("Deployment", DEPLOYMENT, f"{KEY[1]}-worker", QUEUE, {"spec": spec})

    def show_set(self, one: ReplicaSet) -> None:
        made = {"metadata": {"creationTimestamp": f"2026-01-01T00:00:{one.age:04}Z"}}
        spec = {"replicas": one.wanted, "template": self.template_of(one.uid)}
        status = {"replicas": len(one.pods), "availableReplicas": one.available}
        self.put("ReplicaSet", one.uid, one.uid, DEPLOYMENT, made | {"spec": spec, "status": status})

    def show_pod(self, pod: Pod) -> None:
        states = {"Ready": pod.ready, ADMITTED: pod.admitted}
        conditions = [{"type": kind, "status": str(state)} for kind, state in states.items()]
        status = {"phase": "Running", "conditions": conditions}
        spec = {"readinessGates": [{"conditionType": ADMITTED}]}
        self.put("Pod", pod.name, pod.name, pod.owner, {"spec": spec, "status": status})

    def hide(self, pod: Pod) -> None:
        gone = {"metadata": {"namespace": KEY[0], "name": pod.name, "uid": pod.name}}
        self.shown["Pod"].append(lambda: self.store.remove("Pod", gone))

    def samples(self) -> list[WorkerSample]:
        return [
            WorkerSample(
                pod.name, registered=pod.runs, busy=int(pod.busy), cordoned=pod.cordoned,
                drained=pod.runs and pod.cordoned and not pod.busy, marked=pod.marked, age_seconds=1.0,
            )
            for pod in self.pods.values()
        ]  # fmt: skip

    # What happens by itself.

    def work(self) -> None:
        for pod in self.pods.values():
            pod.starts_in -= 1
            pod.marked_for += 1
            if pod.starts_in == 0:
                self.show_pod(pod)
            if pod.busy:
                pod.works_for -= 1
            elif pod.runs and not pod.cordoned and self.random.random() < 0.7:
                pod.works_for = self.random.choice([2, 20, 60])

    def sync_deployment(self) -> None:
        """`rolloutRolling` with maxSurge 100 % and maxUnavailable 0."""
        if self.template not in self.sets:
            self.sets[self.template] = ReplicaSet(self.template, len(self.sets))
            self.show_set(self.sets[self.template])
        new = self.sets[self.template]
        old = sorted((one for one in self.sets.values() if one is not new), key=lambda one: one.age)
        total = new.wanted + sum(one.wanted for one in old)
        if new.wanted < self.replicas and total < 2 * self.replicas:
            new.wanted += min(2 * self.replicas - total, self.replicas - new.wanted)
            self.show_set(new)
            return
        room = total - self.replicas - (new.wanted - new.available)
        if room <= 0 or not any(one.wanted for one in old):
            return
        for one in old:  # those that are not available first
            if one.wanted and one.wanted > one.available:
                fewer = min(room, one.wanted - one.available)
                one.wanted, room = one.wanted - fewer, room - fewer
                self.show_set(one)
            elif one.wanted < one.available:
                return  # "got invalid request to scale down": it has not heard of its last change yet
        surplus = sum(one.available for one in [*old, new]) - self.replicas
        for one in old:
            fewer = min(one.wanted, max(0, surplus))
            if fewer:
                one.wanted, surplus = one.wanted - fewer, surplus - fewer
                self.show_set(one)

    def sync_set(self, one: ReplicaSet) -> None:
        while len(one.pods) < one.wanted:
            self.made += 1
            one.pods.append(made := Pod(f"{one.uid}-{self.made}", one.uid, self.random.choice([3, 8, 30])))
            self.show_pod(made)
        seen = SETTLE_SECONDS / TICK_SECONDS - 2
        one.pods.sort(key=lambda pod: (pod.ready, not (pod.marked and pod.marked_for >= seen), self.random.random()))
        while len(one.pods) > one.wanted:
            pod = one.pods.pop(0)
            self.hide(pod)
            if pod.busy:
                self.removed_busy.append(f"{pod} of {self.sets} at {self.tick}")
        one.available = sum(pod.ready for pod in one.pods)
        self.show_set(one)

    def step(self) -> None:
        """One tick: what happens in it, and what is shown of it."""
        self.tick += 1
        self.work()
        if self.random.random() < 0.3:
            self.sync_deployment()
        for one in self.sets.values():
            if self.random.random() < 0.3:
                self.sync_set(one)
        for news in self.shown.values():
            while news and self.random.random() < 0.8:
                news.pop(0)()
        for call in [call for call in self.calls if self.random.random() < 0.3]:
            self.calls.remove(call)
            if not call.done():
                call.set_result(None)

    # The operator.

    @property
    def deployment(self) -> Any:
        return self.store.deployments[KEY]

    async def look_again_and_again(self) -> None:
        while True:
            if KEY in self.store.deployments:
                workers, seen = self.samples(), self.deployment
                await self.care.hand_over(
                    seen, rollout_of(seen, self.store.replica_sets(KEY)), workers, self.replicas,
                    cast("ScalingRedis", self), self.now(), settle_seconds=SETTLE_SECONDS,
                )  # fmt: skip
            for _ in range(self.random.choice([1, 5, 10])):
                await self.moment()

    async def apply(self, template: str) -> None:
        """As a reconcile does: it waits for its moment, and the write takes a while."""
        while True:
            try:
                rollout = rollout_of(self.deployment, self.store.replica_sets(KEY))
                self.care.make_way(self.deployment, rollout, self.replicas, self.now(), wanted=True)
            except HandoverWaitsError:
                for _ in range(10):
                    await self.moment()
                continue
            await self.moment()
            self.template = template
            self.show_deployment()
            return

    @property
    def settled(self) -> bool:
        rolled_out = all(pod.owner == self.template and pod.ready for pod in self.pods.values())
        return rolled_out and len(self.pods) == self.replicas

    async def apply_some(self) -> None:
        for _ in range(self.random.choice([2, 3, 5])):
            for _ in range(self.random.choice([1, 10, 100, 300])):
                await self.moment()
            if self.random.random() < 0.2:
                self.looking.cancel()
                self.start_operator()
                self.looking = asyncio.create_task(self.look_again_and_again())
            if self.random.random() < 0.2:
                self.replicas += 1
                self.show_deployment()
            names = [f"v{len(self.sets) + 1}", *self.sets]
            await self.apply(self.random.choice([names[0], names[0], self.random.choice(names)]))

    async def run(self) -> None:
        self.looking = asyncio.create_task(self.look_again_and_again())
        while not self.settled or KEY not in self.store.deployments:
            await self.tock()
        applying = asyncio.create_task(self.apply_some())
        while not applying.done() or not self.settled:
            await self.tock()
        self.looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.looking

    async def tock(self) -> None:
        assert self.tick < MOST_TICKS, "the rollouts do not come to an end"
        self.step()
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seeds", [range(first, first + 60) for first in range(0, 240, 60)], ids=str)
async def test_no_busy_pod_is_removed_and_every_rollout_comes_to_its_end(seeds: range) -> None:
    for seed in seeds:
        world = World(seed)
        await world.run()
        assert not world.removed_busy, f"seed {seed}: {world.removed_busy}"


def test_an_undo_waits_for_the_removal_that_is_about_to_happen() -> None:
    """The old pod is drained and the new one has been admitted; with the old template back the new one would go."""
    world = World(0)
    world.replicas = 1
    old, new = ReplicaSet("v1", 0, wanted=1, available=1), ReplicaSet("v2", 1, wanted=1, available=1)
    old.pods = [Pod("a", "v1", 0, admitted=True, marked=True, cordoned=True)]
    new.pods = [Pod("x", "v2", 0, admitted=True, works_for=60)]
    world.sets, world.template = {"v1": old, "v2": new}, "v2"
    world.show_deployment()
    for one in (old, new):
        world.show_set(one)
        world.show_pod(one.pods[0])
    world.catch_up()
    rollout = rollout_of(world.deployment, world.store.replica_sets(KEY))
    with pytest.raises(HandoverWaitsError, match="Kubernetes is about to remove a pod"):
        world.care.make_way(world.deployment, rollout, 1, 0.0, wanted=True)
