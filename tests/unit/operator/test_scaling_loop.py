"""The control loop over a fleet in memory: the part that Kubernetes and `taskfleet up` share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from taskfleet.errors import BrokerConnectionError
from taskfleet.protocol.figures import Horizons
from taskfleet_operator.autoscaler import ScalingDecision, ScalingOverrides, ScalingState, WorkerSample
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.scaling.loop import ScalingLoop
from taskfleet_operator.scaling.order import QueueTarget, ScalingOrder
from taskfleet_operator.scaling.port import Look, ScalingRedis
from taskfleet_operator.scaling.sampling import Reading, Replicas
from tests.unit.operator.builders import STATS, worker


class MemoryBroker:
    """Workers by name with their state, and the cordons that they would read."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.down: Exception | None = None
        self.stale = False
        self.refused: Exception | None = None
        self.busy: dict[str, int] = {}
        self.notes: list[tuple[str, Look]] = []
        self.note_fails: Exception | None = None

    @property
    def notice(self) -> str:
        return ""

    def next_poll(self, now: float, interval: float) -> float:
        return now + interval

    async def read(self, horizons: Mapping[str, Horizons], *, urgent: bool = False, workers: bool = True) -> Reading:
        if self.down:
            raise self.down
        stats = {name: replace(STATS, due=0) for name in horizons}
        fresh = workers or not self.stale
        return Reading(
            stats,
            {name: [worker(name, busy=self.busy.get(name, 0), state=state)] for name, state in self.states.items()},
            fresh=fresh,
        )

    def note(self, scaler: str, look: Look) -> None:
        if self.note_fails is not None:
            raise self.note_fails
        self.notes.append((scaler, look))

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        self.calls.append(("cordon", name))
        self.states[name] = "cordoned"

    async def uncordon(self, name: str) -> None:
        if self.refused is not None:
            raise self.refused
        self.calls.append(("uncordon", name))
        if name in self.states:
            self.states[name] = "running"


class MemoryFleet:
    """Replicas that are there at once. `spec.replicas` is the order."""

    settle_seconds = 0.0
    refresh_seconds = float("inf")

    def __init__(self, broker: MemoryBroker, poll_seconds: int = 600) -> None:
        self.broker = broker
        self.wanted = 0
        self.asked = ScalingOverrides(replicas=0)
        self.autoscaler = AutoscalerSpec(mode="Disabled", poll_interval_seconds=poll_seconds)
        self.sizes: list[int] = []
        self.looks: list[Look] = []
        self.errors: list[Exception] = []
        self.failing: Exception | None = None
        self.exists = True
        self.lease_seconds = 600.0
        self.handovers = 0
        self.misled: set[str] = set()  # handed over as cordoned by the look that has lifted their cordon
        self.ready = True
        self.slow = asyncio.Event()  # set while calls for one replica are answered
        self.slow.set()
        self.again = float("inf")

    def order(self) -> ScalingOrder:
        target = QueueTarget("default", lease_seconds=self.lease_seconds)
        return ScalingOrder((target,), self.autoscaler, self.asked, concurrency=4, processes=1)

    def replicas(self) -> Replicas | None:
        ages = dict.fromkeys(self.broker.states, 60.0)
        return Replicas(self.wanted, len(ages) if self.ready else 0, 0, ages) if self.exists else None

    def initial_state(self, current: int, now: float) -> ScalingState:
        return ScalingState.initial(current, now)

    async def mark(self, name: str) -> bool:
        self.broker.calls.append(("mark", name))
        await self.slow.wait()
        return True

    async def unmark(self, name: str) -> None:
        self.broker.calls.append(("unmark", name))
        await self.slow.wait()

    async def resize(self, replicas: int, removed: Sequence[str], decision: ScalingDecision) -> None:
        self.sizes.append(replicas)
        self.wanted = replicas
        for name in removed:
            del self.broker.states[name]
        for number in range(len(self.broker.states), replicas):
            self.broker.states[f"w{number}"] = "running"

    async def hand_over(self, workers: Sequence[WorkerSample], broker: ScalingRedis) -> bool:
        self.handovers += 1
        self.misled |= {one.name for one in workers if one.cordoned and self.broker.states[one.name] == "running"}
        return False

    async def tell(self, look: Look) -> float:
        self.looks.append(look)
        if self.failing is not None:
            raise self.failing
        return self.again

    def failed(self, error: Exception) -> None:
        self.errors.append(error)
        if isinstance(error, OSError):
            raise error


@pytest.fixture
def fleet() -> Iterator[MemoryFleet]:
    made = MemoryFleet(MemoryBroker())
    yield made
    assert not made.misled


@contextlib.asynccontextmanager
async def running(fleet: MemoryFleet) -> AsyncIterator[ScalingLoop]:
    loop = ScalingLoop(fleet, fleet.broker, time.monotonic, scaler="shop/orders")
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], Any], what: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.005)


async def test_an_order_is_followed_when_the_loop_is_woken(fleet: MemoryFleet) -> None:
    async with running(fleet) as loop:
        await until(lambda: fleet.looks, "the first look")
        fleet.asked = ScalingOverrides(replicas=3)
        loop.wake()
        await until(lambda: fleet.sizes == [3], "three replicas")
        fleet.asked = ScalingOverrides(replicas=2)
        loop.wake()
        await until(lambda: fleet.broker.calls, "a cordon")
        ((call, name),) = fleet.broker.calls
        assert (call, fleet.sizes) == ("cordon", [3]), "the number does not fall before the worker is drained"
        fleet.broker.states[name] = "drained"  # nobody wakes the loop: it looks by itself while a worker drains
        await until(lambda: fleet.sizes == [3, 2], "the drained one has gone")
        assert name not in fleet.broker.states
        assert fleet.broker.calls == [("cordon", name), ("mark", name)]


async def test_the_cordon_of_a_worker_that_has_gone_is_deleted(fleet: MemoryFleet) -> None:
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=2)
        await until(lambda: fleet.sizes == [2], "two replicas")
        fleet.asked = ScalingOverrides(replicas=1)
        loop.wake()
        await until(lambda: fleet.broker.calls, "a cordon")
        ((_, name),) = fleet.broker.calls
        fleet.broker.states[name] = "drained"
        await until(lambda: fleet.sizes == [2, 1], "the drained one has gone")
        assert ("uncordon", name) not in fleet.broker.calls
        loop.wake()
        await until(lambda: ("uncordon", name) in fleet.broker.calls, "its key is deleted")


async def test_demand_that_returns_lifts_the_cordon(fleet: MemoryFleet) -> None:
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=2)
        await until(lambda: fleet.sizes == [2], "two replicas")
        fleet.asked = ScalingOverrides(replicas=1)
        loop.wake()
        await until(lambda: "cordoned" in fleet.broker.states.values(), "one is cordoned")
        fleet.asked = ScalingOverrides(replicas=2)
        await until(lambda: "cordoned" not in fleet.broker.states.values(), "it works again")
        await until(
            lambda: not fleet.looks[-1].decision or fleet.looks[-1].decision.desired == 2, "that look has ended"
        )
        assert [call for call, _ in fleet.broker.calls] == ["cordon", "uncordon"]
        assert fleet.sizes == [2]


async def test_the_time_that_kubernetes_has_to_see_a_mark_begins_when_the_mark_is_set(fleet: MemoryFleet) -> None:
    fleet.settle_seconds = 1.0
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=2)
        loop.wake()
        await until(lambda: fleet.sizes == [2], "two are there")
        fleet.slow.clear()
        fleet.asked = ScalingOverrides(replicas=1)
        loop.wake()
        await until(lambda: "cordoned" in fleet.broker.states.values(), "one is cordoned")
        (going,) = (name for name, state in fleet.broker.states.items() if state == "cordoned")
        fleet.broker.states[going] = "drained"
        await until(lambda: ("mark", going) in fleet.broker.calls, "it is being marked")
        await asyncio.sleep(fleet.settle_seconds)  # the API server is as slow as that
        fleet.slow.set()
        marked = time.monotonic()
        await until(lambda: fleet.sizes == [2, 1], "the number falls")
        assert time.monotonic() - marked >= fleet.settle_seconds - 0.05


async def test_no_worker_takes_the_place_of_another_when_all_go(fleet: MemoryFleet) -> None:
    """Suspended during a rollout: the new workers, too, claim nothing more."""
    async with running(fleet) as loop:
        await until(lambda: fleet.looks, "the first look")
        fleet.asked = ScalingOverrides(replicas=3)
        loop.wake()
        await until(lambda: fleet.sizes == [3] and len(fleet.looks) > 1, "three replicas")
        fleet.asked = ScalingOverrides(replicas=3, suspend=True)
        before = fleet.handovers
        loop.wake()
        await until(lambda: set(fleet.broker.states.values()) == {"cordoned"}, "all are cordoned")
        looks = len(fleet.looks)
        await until(lambda: len(fleet.looks) > looks + 1, "two more looks")
        assert fleet.handovers == before
        fleet.asked = ScalingOverrides(replicas=3)
        loop.wake()
        await until(lambda: fleet.handovers > before, "it goes on")
        assert set(fleet.broker.states.values()) == {"running"}


async def test_a_failed_read_is_a_failed_sample_and_no_error(fleet: MemoryFleet) -> None:
    fleet.broker.down = BrokerConnectionError("redis:6379 refuses the connection")
    fleet.autoscaler = AutoscalerSpec(poll_interval_seconds=600)
    async with running(fleet):
        await until(lambda: fleet.looks, "the first look")
    (look,) = fleet.looks
    assert look.reading is None
    assert look.decision is not None
    assert look.decision.reason == "SampleFailed"
    assert fleet.errors == []


async def test_a_smaller_number_waits_for_leases_while_redis_cannot_be_read(fleet: MemoryFleet) -> None:
    """One read that fails must not take the busy workers that the looks before have spared."""
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=2)
        await until(lambda: fleet.sizes == [2], "two replicas")
        fleet.broker.busy = dict.fromkeys(fleet.broker.states, 1)
        looks = len(fleet.looks)
        loop.wake()
        await until(lambda: len(fleet.looks) > looks, "they are seen to be busy")
        fleet.broker.down = BrokerConnectionError("redis:6379 refuses the connection")
        for asked in (ScalingOverrides(replicas=1), ScalingOverrides(replicas=2, suspend=True)):
            fleet.asked, looks = asked, len(fleet.looks)
            loop.wake()
            await until(lambda before=looks: len(fleet.looks) > before, "another look")
            decision = fleet.looks[-1].decision
            assert decision is not None
            assert (decision.desired, decision.limited_by) == (2, "BusyWorkers")
            assert "2 workers were busy" in decision.limit_message
        assert fleet.sizes == [2]


async def test_when_the_leases_have_run_out_the_user_may_have_fewer_without_redis(fleet: MemoryFleet) -> None:
    fleet.lease_seconds = 0.2
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=1)
        await until(lambda: fleet.sizes == [1], "a replica")
        fleet.broker.busy = dict.fromkeys(fleet.broker.states, 1)
        looks = len(fleet.looks)
        loop.wake()
        await until(lambda: len(fleet.looks) > looks, "it is seen to be busy")
        fleet.broker.down = BrokerConnectionError("redis:6379 refuses the connection")
        fleet.asked = ScalingOverrides(replicas=1, suspend=True)

        def reached(what: Callable[[], bool]) -> Callable[[], bool]:
            return lambda: loop.wake() or what()

        await until(reached(lambda: "that are ready (1)" in told(fleet)), "ready replicas keep their number")
        assert fleet.sizes == [1]
        fleet.ready = False
        await until(reached(lambda: fleet.sizes[-1] == 0), "suspended")


def told(fleet: MemoryFleet) -> str:
    decision = fleet.looks[-1].decision
    return decision.limit_message if decision is not None else ""


@pytest.mark.parametrize("suspend", [True, False])
async def test_a_loop_that_starts_without_redis_takes_no_replica_of_which_it_knows_nothing(
    fleet: MemoryFleet, *, suspend: bool
) -> None:
    fleet.broker.states, fleet.wanted, fleet.ready = {"w0": "running", "w1": "running"}, 2, False
    fleet.broker.down = BrokerConnectionError("redis:6379 refuses the connection")
    lower = {"failureThreshold": 1, "behavior": "Static", "replicas": 0}
    fleet.autoscaler = AutoscalerSpec.model_validate({"pollIntervalSeconds": 600, "fallback": lower})
    fleet.asked = ScalingOverrides(replicas=2, suspend=suspend)
    async with running(fleet):
        await until(lambda: fleet.looks, "the first look")
    assert "has not been read yet" in told(fleet)
    assert fleet.sizes == []


async def test_a_larger_number_waits_for_no_call_about_single_replicas(fleet: MemoryFleet) -> None:
    fleet.settle_seconds = 600.0
    async with running(fleet) as loop:
        for asked in (2, 1):
            fleet.asked = ScalingOverrides(replicas=asked)
            loop.wake()
            await until(lambda: fleet.sizes == [2], "two replicas")
        await until(lambda: fleet.broker.calls, "a cordon")
        fleet.broker.states[fleet.broker.calls[0][1]] = "drained"
        await until(lambda: fleet.broker.calls[-1][0] == "mark", "a mark")
        fleet.slow.clear()
        fleet.asked = ScalingOverrides(replicas=4)
        loop.wake()
        await until(lambda: any(call == "unmark" for call, _ in fleet.broker.calls), "the mark is being lifted")
        assert fleet.sizes == [2, 4]
        fleet.slow.set()


async def test_a_cordon_that_cannot_be_deleted_is_deleted_later_and_the_figures_are_told(fleet: MemoryFleet) -> None:
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=1)
        loop.wake()
        await until(lambda: fleet.sizes == [1], "a replica")
        fleet.broker.refused = BrokerConnectionError("redis:6379 is busy")
        fleet.asked = ScalingOverrides(replicas=0)
        loop.wake()
        await until(lambda: fleet.broker.calls, "a cordon")
        fleet.broker.states["w0"] = "drained"
        await until(lambda: fleet.sizes == [1, 0], "it goes")
        loop.wake()
        await until(lambda: fleet.errors, "the cordon of the replica that has gone stays")
        assert fleet.looks[-1].refused is fleet.errors[-1]
        fleet.broker.refused = None
        await until(lambda: fleet.broker.calls[-1][0] == "uncordon", "it is deleted")


async def test_any_error_while_reading_is_a_failed_sample(fleet: MemoryFleet) -> None:
    fleet.broker.down = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte " * 1000)
    fleet.autoscaler = AutoscalerSpec(poll_interval_seconds=600)
    async with running(fleet):
        await until(lambda: fleet.looks, "the first look")
    (look,) = fleet.looks
    assert look.sample.failure.startswith("UnicodeDecodeError: ")
    assert len(look.sample.failure) < 400, "a server chooses the text, and we its length"
    assert fleet.errors == []


async def test_heartbeats_of_an_earlier_poll_take_no_worker_away(fleet: MemoryFleet) -> None:
    async with running(fleet) as loop:
        fleet.asked = ScalingOverrides(replicas=2)
        loop.wake()
        await until(lambda: fleet.sizes == [2], "two replicas")
        looks = len(fleet.looks)
        fleet.broker.stale = True
        fleet.asked = ScalingOverrides(replicas=1)
        loop.wake(work=True)
        await until(lambda: fleet.broker.calls, "a cordon")
        stale, fresh = fleet.looks[looks : looks + 2]
        assert stale.reading is not None
        assert fresh.reading is not None
        assert (stale.reading.fresh, fresh.reading.fresh) == (False, True)


async def test_a_look_that_fails_is_followed_by_the_next(fleet: MemoryFleet) -> None:
    fleet.failing = RuntimeError("no status")
    async with running(fleet) as loop:
        await until(lambda: fleet.errors, "the failure")
        fleet.failing = None
        loop.wake()
        await until(lambda: len(fleet.looks) == 2, "the next look")


async def test_what_has_failed_is_tried_again_long_before_the_next_poll(fleet: MemoryFleet) -> None:
    fleet.failing = RuntimeError("the API server does not answer")
    async with running(fleet):
        await until(lambda: len(fleet.errors) == 2, "two failures")
        fleet.failing = None
        await until(lambda: len(fleet.looks) == 3, "the next look, while the next poll is minutes away")


async def test_a_fleet_may_end_the_loop(fleet: MemoryFleet) -> None:
    fleet.failing = OSError("stdout is closed")
    with pytest.raises(OSError, match="stdout is closed"):
        await ScalingLoop(fleet, fleet.broker, time.monotonic).run()


async def test_a_fleet_that_does_not_exist_yet_is_left_alone(fleet: MemoryFleet) -> None:
    fleet.exists = False
    async with running(fleet) as loop:
        await asyncio.sleep(0)
        fleet.exists = True
        loop.wake()
        await until(lambda: fleet.looks, "the first look")


async def test_looks_between_decisions_only_refresh_the_figures(fleet: MemoryFleet) -> None:
    fleet.refresh_seconds = 0.02
    async with running(fleet):
        await until(lambda: len(fleet.looks) > 3, "some looks")
    assert [look.decision is not None for look in fleet.looks[:4]] == [True, False, False, False]


async def test_figures_that_were_not_told_bring_the_next_decision_forward(fleet: MemoryFleet) -> None:
    fleet.again = 0.02
    async with running(fleet):
        await until(lambda: len(fleet.looks) > 2, "some looks")
    assert all(look.decision is not None for look in fleet.looks)


async def test_each_decision_is_noted_with_what_it_was_made_from(fleet: MemoryFleet) -> None:
    async with running(fleet) as loop:
        await until(lambda: fleet.broker.notes, "the first decision")
        fleet.asked = ScalingOverrides(replicas=3)
        loop.wake()
        await until(lambda: fleet.sizes == [3], "three replicas")
    (first, look), *_, (name, last) = fleet.broker.notes
    assert first == name == "shop/orders"
    assert look.decision is not None
    assert last.decision is not None
    assert look.before == ScalingState.initial(0, look.now)
    assert last.decided == last.decision.desired == 3
    assert last.before is not None
    assert last.before.last_decided < last.now


async def test_a_decision_that_cannot_be_noted_is_carried_out_and_told_all_the_same(fleet: MemoryFleet) -> None:
    fleet.broker.note_fails = RuntimeError("no memory")
    fleet.asked = ScalingOverrides(replicas=2)
    async with running(fleet):
        await until(lambda: fleet.sizes == [2] and fleet.looks, "two replicas")
    assert fleet.errors == []
    assert fleet.broker.notes == []
