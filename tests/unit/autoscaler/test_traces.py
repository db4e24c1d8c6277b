"""Recorded decisions. A change of behaviour appears as a change of a file; review it before you accept it.

`UPDATE_TRACES=1 pytest tests/unit/autoscaler/test_traces.py` records them anew.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from taskfleet_operator.autoscaler import (
    FleetSample,
    QueueSample,
    ScalingDecision,
    ScalingOverrides,
    ScalingState,
    decide,
)
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.simulate import load
from taskfleet_operator.simulate.autoscalers import OurAutoscaler
from taskfleet_operator.simulate.load import Load, RunTime
from taskfleet_operator.simulate.simulated_fleet import SimulatedFleet
from taskfleet_operator.simulate.simulation import SimulatedWorld, simulate
from tests.unit.autoscaler.builders import spec

TRACES = Path(__file__).parent / "traces"


@dataclass
class Scenario:
    spec: AutoscalerSpec
    load: Load
    seconds: int = 420
    start: float = 5.0


HALF = RunTime(0.5)
SCENARIOS = {
    "burst_of_10000": Scenario(spec(), load.bursts(10_000, HALF, every=1e9), seconds=700),
    "step_to_40_per_second": Scenario(spec(), load.step(20.0, HALF, at=10.0)),
    "ramp_with_slow_starts": Scenario(spec(), load.ramp(50.0, HALF, seconds=400.0), start=40.0),
    "on_and_off_each_minute": Scenario(spec(), load.on_off(50.0, HALF, on=20.0, off=40.0)),
    "threshold": Scenario(spec(policy="Threshold"), load.on_off(25.0, HALF, on=100.0, off=400.0)),
    "long_tasks": Scenario(spec(), load.on_off(40.0, RunTime(20.0), on=200.0, off=600.0), seconds=700),
}


class Recorder(OurAutoscaler):
    """Keeps what it saw and decided."""

    steps: list[tuple[float, FleetSample, ScalingDecision]]

    def look(self, fleet: SimulatedFleet, now: float) -> float:
        seen, again = self._sample(fleet, now), super().look(fleet, now)
        assert self.decided is not None
        self.steps.append((now, seen, self.decided))
        return again


def record(scenario: Scenario) -> dict[str, Any]:
    world = SimulatedWorld("a trace", (scenario.load,), scenario.seconds, 8, scenario.start)
    recorder = Recorder("ours", scenario.spec, world.loads, world.faults)
    recorder.steps = []
    simulate(world, recorder)
    return {
        "spec": scenario.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "steps": [{"now": now, "sample": _plain(seen), **outcome(decision)} for now, seen, decision in recorder.steps],
    }


def outcome(decision: ScalingDecision) -> dict[str, Any]:
    return {
        "desired": decision.desired,
        "reason": decision.reason,
        "limitedBy": decision.limited_by,
        "message": decision.message,
    }


def _plain(sample: FleetSample) -> dict[str, Any]:
    fields = asdict(sample)
    del fields["overrides"], fields["failure"]
    return fields


def _sample(fields: dict[str, Any]) -> FleetSample:
    queues = tuple(QueueSample(**queue) for queue in fields.pop("queues"))
    return FleetSample(queues=queues, overrides=ScalingOverrides(), **fields)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_recorded_decisions_are_made_again(name: str) -> None:
    path = TRACES / f"{name}.json"
    if os.environ.get("UPDATE_TRACES"):
        steps = record(SCENARIOS[name])
        lines = ",\n".join("  " + json.dumps(step, ensure_ascii=False) for step in steps["steps"])
        path.write_text(f'{{"spec": {json.dumps(steps["spec"])}, "steps": [\n{lines}\n]}}\n')
    trace = json.loads(path.read_text())
    rule = AutoscalerSpec.model_validate(trace["spec"])
    state = ScalingState.initial(trace["steps"][0]["sample"]["current_replicas"], trace["steps"][0]["now"])
    for step in trace["steps"]:
        decision = decide(_sample(step["sample"]), state, rule, step["now"])
        assert outcome(decision) == {key: step[key] for key in outcome(decision)}, f"at {step['now']} s"
        state = decision.state
