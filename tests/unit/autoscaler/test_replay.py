"""The what-if: `decide` is asked again with recorded samples, and with other rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet.history.decision_log import DecisionLog
from taskfleet_operator.autoscaler import (
    FleetSample,
    ScalingDecision,
    ScalingState,
    changed_spec,
    decide,
    plain_sample,
    plain_state,
    replay,
)
from taskfleet_operator.autoscaler.history import Recommendation
from taskfleet_operator.autoscaler.recorded import sample_of, state_of
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.simulate.autoscalers import OurAutoscaler
from taskfleet_operator.simulate.simulated_fleet import SimulatedFleet
from taskfleet_operator.simulate.simulation import SimulatedWorld, simulate
from tests.unit.autoscaler.builders import fresh, queue, sample, spec
from tests.unit.autoscaler.test_traces import SCENARIOS, Scenario

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Kept:
    """A record as it comes back from JSON."""

    at: datetime
    now: float
    current: int
    desired: int
    reason: str
    sample: Mapping[str, Any]
    spec: Mapping[str, Any]
    state: Mapping[str, Any] | None


class Listener(OurAutoscaler):
    """Keeps what it saw, remembered and decided."""

    steps: list[tuple[float, FleetSample, ScalingState, ScalingDecision]]

    def look(self, fleet: SimulatedFleet, now: float) -> float:
        seen, before = self._sample(fleet, now), self._state or ScalingState.initial(fleet.current, now)
        again = super().look(fleet, now)
        assert self.decided is not None
        self.steps.append((now, seen, before, self.decided))
        return again


def lived(scenario: Scenario, seconds: float) -> Listener:
    world = SimulatedWorld("an hour", (scenario.load,), seconds, 8, scenario.start)
    listener = Listener("ours", scenario.spec, world.loads, world.faults)
    listener.steps = []
    simulate(world, listener)
    return listener


def kept(listener: Listener, rules: AutoscalerSpec, *, thinned: bool = False, skipped: int = 0) -> list[Kept]:
    """The records of a life, after the first `skipped`; `thinned` as those that are written to Redis are."""
    moment = 0.0
    log = DecisionLog(None, "shop/orders", lambda: moment)  # type: ignore[arg-type]
    found: list[Kept] = []
    for now, seen, before, decision in listener.steps[skipped:]:
        moment = now
        outcome = decision.desired, decision.reason, decision.limited_by
        if thinned and not log.wants(outcome):
            continue
        log._outcome, log._written, log._count = outcome, now, log._count + 1
        values = {
            "sample": plain_sample(seen),
            "spec": rules.model_dump(mode="json", by_alias=True),
            "state": plain_state(before) if len(found) % 30 == 0 else None,
        }
        at = NOON + timedelta(seconds=now)
        found.append(
            Kept(at, now, decision.current, decision.desired, decision.reason, **json.loads(json.dumps(values)))
        )
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_unchanged_rules_give_the_recorded_numbers(name: str) -> None:
    rules = SCENARIOS[name].spec
    records = kept(lived(SCENARIOS[name], 900), rules)
    for again in (replay(records), replay(records, {}), replay(records, rules)):
        assert [one.would for one in again] == [one.desired for one in records]
        assert [one.reason for one in again] == [one.reason for one in records]
        assert [one.at for one in again] == [one.at for one in records]


@pytest.mark.parametrize("name", SCENARIOS)
def test_records_that_begin_in_the_middle_give_the_recorded_numbers(name: str) -> None:
    rules = SCENARIOS[name].spec
    records = kept(lived(SCENARIOS[name], 900), rules, skipped=60)
    assert [one.would for one in replay(records)] == [one.desired for one in records]


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_left_out_of_the_record_hardly_changes_the_numbers(name: str) -> None:
    rules = SCENARIOS[name].spec
    listener = lived(SCENARIOS[name], 1800)
    records = kept(listener, rules, thinned=True)
    again = replay(records)
    same = sum(one.would == one.desired for one in again)
    assert same >= 0.95 * len(records)


BURST = SCENARIOS["burst_of_10000"]


@pytest.fixture(scope="module")
def burst() -> Sequence[Kept]:
    return kept(lived(BURST, 300), BURST.spec)


def test_a_shorter_time_to_drain_would_have_asked_for_more(burst: Sequence[Kept]) -> None:
    again = replay(burst, {"target": {"drainSeconds": 30}, "maxReplicas": 500, "maxPendingReplicas": 500})
    assert sum(one.would for one in again) > sum(one.desired for one in again)
    assert all(one.current == record.current for one, record in zip(again, burst, strict=True)), "an open loop"


def test_a_lower_maximum_bounds_every_number_and_says_so(burst: Sequence[Kept]) -> None:
    again = replay(burst, {"maxReplicas": 3})
    assert max(one.would for one in again) == 3
    assert {one.limited_by for one in again if one.would == 3} >= {"TooManyReplicas"}


def test_the_target_of_the_queues_can_be_another(burst: Sequence[Kept]) -> None:
    slow, fast = (sum(one.would for one in replay(burst, {"targetLatencySeconds": target})) for target in (3600, 30))
    assert slow < fast
    none = [one.would for one in replay(burst, {"targetLatencySeconds": None})]
    assert none == [one.desired for one in burst], "no queue of the burst has a target of its own"
    own = [replace(record, sample=with_target(record.sample, 3600.0)) for record in burst]
    assert sum(one.would for one in replay(own)) == slow
    assert [one.would for one in replay(own, {"targetLatencySeconds": None})] == none, "they have none any more"
    assert replay(burst, {"targetLatencySeconds": 30.0}) == replay(burst, {"targetLatencySeconds": 30})


def with_target(seen: Mapping[str, Any], target: float) -> Mapping[str, Any]:
    return {**seen, "queues": [{**each, "target_latency_seconds": target} for each in seen["queues"]]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maxReplicas": 0}, "maxReplicas: Input should be greater than or equal to 1"),
        ({"minReplicas": 60}, "autoscaler: minReplicas must not be greater than maxReplicas"),
        ({"target": {"drainSecond": 3}}, "target.drainSecond: Extra inputs are not permitted"),
        *(
            ({"targetLatencySeconds": wrong}, "targetLatencySeconds: must be a whole number of seconds from 1 to 86400")
            for wrong in (0, 0.5, 5.5, 86_401, -1, True, "5", [5], float("nan"), float("inf"), 10**400)
        ),
        ({"threshold": {"scaleUpThreshold": 5.0}}, "threshold.scaleUpThreshold: must be a string"),
    ],
)
def test_rules_that_no_manifest_could_have_are_an_error_of_one_line(
    burst: Sequence[Kept], changes: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        replay(burst, changes)
    assert str(refused.value).startswith(message)


def test_a_change_of_none_is_the_default_again() -> None:
    rules = spec(maxReplicas=7, target={"drainSeconds": 30}).model_dump(mode="json", by_alias=True)
    found = changed_spec(rules, {"target": {"drainSeconds": None}, "minReplicas": 2})
    assert (found.max_replicas, found.min_replicas, found.target.drain_seconds) == (7, 2, 60)


def test_records_of_another_process_begin_with_its_own_memory(burst: Sequence[Kept]) -> None:
    """A new operator leads: its clock and its memory are others."""
    later = [replace(record, at=record.at + timedelta(seconds=320)) for record in burst]
    again = replay([*burst, *later])
    assert [one.would for one in again] == [one.desired for one in [*burst, *later]]


@pytest.mark.parametrize("seconds", [-10.0, 1000.0], ids=["a little behind", "far ahead"])
def test_a_record_by_another_clock_begins_with_the_memory_that_it_has(burst: Sequence[Kept], seconds: float) -> None:
    """Another machine decides: its clock is another, and its memory has begun long ago by that clock."""
    before, record = burst[20], burst[21]
    assert before.current != 7
    # Each remembers a recommendation, which holds its number.
    state = replace(ScalingState.initial(7, 0.0), recommendations=(Recommendation(before.now + seconds, 7),))
    seen = sample(current=7, workers_registered=7, ready_replicas=7)
    values = json.loads(json.dumps({"sample": plain_sample(seen), "state": plain_state(state)}))
    other = replace(record, at=before.at + timedelta(seconds=1), now=before.now + seconds, current=7, **values)
    *_, again = replay([*burst[:21], other])
    alone = replay([other])[0]
    assert (again.would, again.reason, again.message) == (alone.would, alone.reason, alone.message)


def test_a_process_that_starts_again_on_the_same_machine_begins_with_its_own_memory(burst: Sequence[Kept]) -> None:
    """`taskfleet up`, ended and started: the clock goes on, and the memory does not."""
    rules = BURST.spec
    state = ScalingState.initial(5, 4001.0)
    later: list[Kept] = []
    for now in range(4001, 4201, 5):
        seen = sample(current=5, workers_registered=5, ready_replicas=5)
        decision = decide(seen, state, rules, float(now))
        values = {"sample": plain_sample(seen), "spec": burst[0].spec, "state": None if later else plain_state(state)}
        at = NOON + timedelta(seconds=now)
        later.append(Kept(at, float(now), 5, decision.desired, decision.reason, **json.loads(json.dumps(values))))
        state = decision.state
    records, first = [*burst, *later], len(burst)
    again = replay(records)
    assert [(one.would, one.reason) for one in again] == [(one.desired, one.reason) for one in records]
    # The counters are lower than those that the process before remembered, which would be odd.
    forgetful = replay([*burst, replace(later[0], state=None), *later[1:]])
    assert (forgetful[first].reason, again[first].reason) == ("SuspectSample", "DrainTime")


def test_a_record_without_its_memory_begins_as_after_a_restart(burst: Sequence[Kept]) -> None:
    again = replay([replace(burst[0], state=None), *burst[1:]])
    assert [one.would for one in again] == [one.desired for one in burst], "it began with nothing remembered"
    broken = [replace(burst[0], state={"started": "yesterday"}), *burst[1:]]
    assert replay(broken) == again


def test_a_record_that_another_program_has_written_is_left_out(burst: Sequence[Kept]) -> None:
    odd = [
        replace(burst[5], sample={"queues": "all"}),
        replace(burst[5], sample={}),
        replace(burst[5], spec={"maxReplicas": "many"}),
        replace(burst[5], spec={"unknown": 1}),
    ]
    assert replay([*burst[:5], *odd, *burst[5:]]) == replay(burst)
    assert replay([]) == []


def test_a_sample_and_a_state_come_back_from_json_as_they_were() -> None:
    seen = sample(queue(5, name="a", rate_per_second=0.5, share=1 / 3), queue(2**53, name="b"), current=3)
    assert sample_of(json.loads(json.dumps(plain_sample(seen)))) == seen
    failed = FleetSample.failed("no Redis", 3, 2)
    assert sample_of(json.loads(json.dumps(plain_sample(failed)))) == failed
    state = lived(SCENARIOS["on_and_off_each_minute"], 200).steps[-1][3].state
    for each in (state, fresh(3)):
        assert state_of(json.loads(json.dumps(plain_state(each)))) == each


def test_a_field_of_a_later_version_does_no_harm() -> None:
    values = {**plain_sample(sample(current=1)), "weather": "fine"}
    assert sample_of(values) == sample(current=1)
