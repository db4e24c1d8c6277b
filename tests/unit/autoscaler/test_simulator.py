"""The simulator: what it counts, and a part of the matrix. `make simulate` runs the whole of it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.simulate import load
from taskfleet_operator.simulate.autoscalers import OurAutoscaler
from taskfleet_operator.simulate.drawing import drawing
from taskfleet_operator.simulate.load import Arrivals, RunTime
from taskfleet_operator.simulate.matrix import (
    OURS,
    RUN_TIMES,
    SLOTS,
    STARTS,
    compare,
    few_worlds,
    looked_at_again,
    worlds,
)
from taskfleet_operator.simulate.report import summary, table, verdict
from taskfleet_operator.simulate.rivals import HpaOnUtilisation, KedaWithHpa
from taskfleet_operator.simulate.second_look import smallest_fixed
from taskfleet_operator.simulate.simulated_fleet import SimulatedFaults, SimulatedFleet
from taskfleet_operator.simulate.simulation import Measured, SimulatedWorld, most_in_an_hour, simulate, turning_points

NONE = SimulatedFaults()


def ours(world: SimulatedWorld, **fields: object) -> Measured:
    spec = AutoscalerSpec.model_validate({"maxReplicas": world.maximum, **fields})
    return simulate(world, OurAutoscaler(OURS, spec, world.loads, world.faults))


def at_once(tasks: int, seconds: float, **fields: float) -> SimulatedWorld:
    made = load.bursts(tasks, RunTime(seconds), every=1e9)
    slots, start = int(fields.get("slots", 16)), fields.get("start", 10.0)
    return SimulatedWorld("at once", (made,), fields.get("minutes", 40.0) * 60, slots, start)


@pytest.mark.parametrize("world", few_worlds(), ids=lambda world: world.name)
def test_the_target_holds(world: SimulatedWorld) -> None:
    found = compare(world, [OURS])
    assert found.ours.wait_95 <= found.allowed
    assert (found.ours.taken_busy, found.ours.rerun) == (0, 0)
    assert (found.ours.steady_reversals or 0) <= 2


@pytest.mark.parametrize(
    ("seconds", "slots", "start"), [(60, 1, 60.0), (60, 8, 60.0), (20, 1, 60.0), (45, 8, 30.0), (90, 8, 60.0)]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_steady_load_of_long_tasks_turns_no_fleet_by_chance(
    seconds: float, slots: int, start: float, seed: int
) -> None:
    """Slow starts allow a long wait, so that a full fleet with a task that waits is no reason to grow."""
    warm = 900 + 3 * seconds
    made = (load.poisson(SLOTS[slots], RunTime(seconds)),)
    world = SimulatedWorld("steady", made, warm + 7200, slots, start, steady_from=warm, seed=seed)
    found = ours(world, minReplicas=0)
    assert (found.steady_reversals or 0) <= 2
    assert found.wait_95 <= 60
    assert found.taken_busy == 0


def test_the_matrix_has_every_load_run_time_number_of_slots_and_start() -> None:
    names = [world.name for world in worlds()]
    assert len(set(names)) == len(names) > 60
    for word in [*RUN_TIMES, *(f"{slots} slots" for slots in SLOTS), *(f"start {start:.0f} s" for start in STARTS)]:
        assert any(word in name for name in names)


def test_a_task_waits_for_a_start_and_a_pod_costs_from_its_request() -> None:
    fleet = SimulatedFleet(slots=2, start_seconds=10.0, seed=1, faults=NONE)
    fleet.resize(1, 0.0)
    for _ in range(3):
        fleet.arrive(Arrivals(4.0, 1, 5.0))
    _, _, kind, pod = fleet.events.pop()
    assert kind == SimulatedFleet.READY
    fleet.ready(pod, 10.0)  # type: ignore[arg-type]
    assert (fleet.backlog, fleet.in_flight, fleet.oldest_age(10.0)) == (1, 2, 6.0)
    fleet.close(20.0)
    assert fleet.pod_seconds == 20.0
    assert fleet.waits == [(6.0, 1), (6.0, 1), (16.0, 1)]


def test_the_platform_takes_a_busy_pod_and_its_task_runs_again_when_the_grace_is_over() -> None:
    fleet = SimulatedFleet(slots=1, start_seconds=1.0, seed=1, faults=NONE)
    fleet.resize(1, 0.0)
    (pod,) = fleet.pods.values()
    fleet.ready(pod, 1.0)
    fleet.arrive(Arrivals(1.0, 1, 600.0))
    fleet.resize(0, 2.0)
    fleet.kill(pod, 2.0 + SimulatedFleet.GRACE_SECONDS)
    assert (fleet.taken_busy, fleet.rerun, fleet.backlog) == (1, 1, 1)


def test_reversals_are_changes_of_direction_within_any_hour() -> None:
    counts = [(0.0, 1), (10.0, 3), (20.0, 2), (4000.0, 5), (4010.0, 4)]
    assert turning_points(counts) == [20.0, 4000.0, 4010.0]
    assert most_in_an_hour([20.0, 4000.0, 4010.0]) == 2


def test_arrivals_by_chance_have_the_rate_and_repeat_with_their_seed() -> None:
    made = load.poisson(40.0, RunTime(0.5))
    first, again, other = (list(made.arrivals(600.0, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sum(one.count for one in first) == pytest.approx(80 * 600, rel=0.03)
    assert all(a.at <= b.at for a, b in itertools.pairwise(first))


def test_a_heavy_tail_has_the_same_mean() -> None:
    made = load.step(40.0, RunTime(5.0, tail=1.5), at=0.0)
    seconds = [one.seconds for one in made.arrivals(3000.0, 3)]
    assert sum(seconds) / len(seconds) == pytest.approx(5.0, rel=0.2)
    assert max(seconds) > 50


def test_a_rival_that_is_much_cheaper_is_looked_at_with_other_seeds_and_beside_a_fixed_fleet() -> None:
    made = load.on_off(40.0, RunTime(0.5), on=100.0, off=100.0)
    world = SimulatedWorld("on and off", (made,), 600.0, 8, 5.0)
    found = compare(world, [OURS])
    fixed = smallest_fixed(world, found.allowed)
    assert fixed is not None
    assert (fixed.autoscaler, fixed.taken_busy) == ("fleet of 4", 0)
    assert smallest_fixed(world, 1e-3).most_replicas > 4  # type: ignore[union-attr]
    assert smallest_fixed(world, -1.0) is None
    assert looked_at_again(found) is found, "no rival is cheaper"
    cheap = replace(found.ours, autoscaler="Threshold", cost=0.1)
    again = looked_at_again(replace(found, measured=(*found.measured, cheap)))
    assert again.second is not None
    assert again.second.fixed == fixed
    assert 1.0 < again.second.our_cost < 3.0
    assert again.second.ours_on_target == 5
    assert "smallest fixed fleet in time: fleet of 4" in verdict(again)


def test_a_recorded_trace_is_played_again(tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("3.5\n1\n2.25\n")
    times = [one.at for one in load.recorded(file, RunTime(1.0)).arrivals(10.0, 1)]
    assert times == pytest.approx([1.0, 2.4, 3.6])


def test_keda_does_not_see_what_runs_and_takes_busy_pods() -> None:
    found = simulate(at_once(100, 600.0), KedaWithHpa("KEDA", 5, 50, NONE))
    assert found.taken_busy > 0
    assert found.rerun > 0
    assert ours(at_once(100, 600.0)).taken_busy == 0


def test_keda_polls_every_half_minute_from_zero_and_ours_is_woken() -> None:
    later = SimulatedWorld("later", (load.bursts(1, RunTime(1.0), every=1e9),), 300.0, 8, 1.0)  # at 60 s
    early = SimulatedWorld("early", (load.delayed_flood(1, RunTime(1.0), at=61.0),), 300.0, 8, 1.0)
    keda = simulate(early, KedaWithHpa("KEDA", 5, 50, NONE))
    assert 29 <= keda.wait_longest <= 31
    assert ours(later).wait_longest <= 1.5


def test_hpa_on_utilisation_keeps_a_pod_and_follows_the_load() -> None:
    idle = simulate(at_once(1, 1.0), HpaOnUtilisation("HPA", 50, NONE))
    assert idle.curve[-1].replicas == 1
    busy = SimulatedWorld("busy", (load.step(40.0, RunTime(0.5)),), 1800.0, 8, 10.0)
    assert 5 <= simulate(busy, HpaOnUtilisation("HPA", 50, NONE)).curve[-1].replicas <= 8


class TestWhatWasFound:
    """The rows of the issue, as closed loops."""

    def test_twenty_long_tasks_get_a_slot_each_and_not_446(self) -> None:
        found = ours(at_once(20, 600.0, slots=1))
        assert found.wait_95 <= 60
        assert found.most_replicas <= 26
        assert ours(at_once(20, 600.0, slots=1), target={"processingTimeSeconds": "600"}).wait_95 <= 30

    def test_the_run_time_is_never_believed_longer_than_a_run_can_have_been(self) -> None:
        spec = AutoscalerSpec(max_replicas=200)
        world = at_once(20, 600.0, slots=1)
        states: list[float] = []

        class Watched(OurAutoscaler):
            def look(self, fleet: SimulatedFleet, now: float) -> float:
                again = super().look(fleet, now)
                assert self._state is not None
                states.append(self._state.points("default")[-1].service_seconds)
                return again

        simulate(world, Watched(OURS, spec, world.loads, NONE))
        assert 300 < max(states) <= 605

    def test_two_arrivals_do_not_double_a_fleet_of_long_tasks(self) -> None:
        made = load.bursts(2, RunTime(120.0), every=6.0, until=70.0)
        calm = load.poisson(12.0, RunTime(120.0))
        world = SimulatedWorld("two more", (calm, made), 600.0, 1, 10.0)
        assert ours(world).most_replicas <= 2 * 12

    def test_a_purge_does_not_change_the_run_time(self) -> None:
        world = SimulatedWorld(
            "purge", (load.bursts(2000, RunTime(1.7), every=300.0, until=700.0),), 1200.0, 8, 5.0,
            SimulatedFaults(purges=(70.0,)),
        )  # fmt: skip
        assert ours(world).wait_95 <= 60

    def test_a_task_behind_a_long_one_gets_a_replica_in_time(self) -> None:
        short = load.Load("short", lambda now: 2.0 if now < 300 else 0.0, RunTime(0.1))
        long = load.Load("long", lambda now: 0.0, RunTime(600.0), together=((310.0, 1),))
        behind = load.Load("behind", lambda now: 0.0, RunTime(0.1), together=((312.0, 1),))
        world = SimulatedWorld("behind a long task", (short, long, behind), 900.0, 1, 5.0)
        assert ours(world, minReplicas=1, maxReplicas=10, target={"drainSeconds": 30}).wait_longest <= 30


def test_the_pictures_and_tables_are_written() -> None:
    world = SimulatedWorld("few <tasks>", (load.step(8.0, RunTime(1.0)),), 600.0, 8, 5.0)
    found = compare(world)
    picture = ET.fromstring(drawing(world.name, found.measured, world.seconds))
    assert picture.attrib["aria-label"] == "few <tasks>"
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}path")) >= 3 * len(found.measured)
    assert "prefers-color-scheme: dark" in ET.tostring(picture, encoding="unicode")
    assert table([found]).splitlines()[2].startswith("| few <tasks> |")
    assert [line.split(" | ")[0].strip("| ") for line in summary([found]).splitlines()[2:]] == [
        one.autoscaler for one in found.measured
    ]
