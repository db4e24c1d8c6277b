"""Recorded decisions. A change of behaviour appears as a change of a file; review it before you accept it.

`UPDATE_TRACES=1 pytest tests/unit/autoscaler/test_traces.py` records them anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
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
from tests.unit.autoscaler.builders import spec
from tests.unit.autoscaler.simulation import Fleet

TRACES = Path(__file__).parent / "traces"


@dataclass
class Scenario:
    spec: AutoscalerSpec
    arrivals: Callable[[float], float]
    seconds: int = 420
    service: float = 0.5
    latency: float = 5.0


SCENARIOS = {
    "burst_of_10000": Scenario(spec(), lambda now: 20_000.0 if 30 <= now < 30.5 else 0.0, seconds=700),
    "step_to_40_per_second": Scenario(spec(), lambda now: 40.0 if now >= 10 else 0.0),
    "ramp_with_slow_starts": Scenario(spec(), lambda now: now / 4, latency=40.0),
    "on_and_off_each_minute": Scenario(spec(), lambda now: 100.0 if now % 60 < 20 else 0.0),
    "threshold": Scenario(spec(policy="Threshold"), lambda now: 50.0 if 20 <= now < 120 else 0.0),
    "long_tasks": Scenario(spec(), lambda now: 2.0 if now < 200 else 0.0, service=20.0, seconds=700),
}


class Recorder(Fleet):
    samples: list[FleetSample]

    def _sample(self, now: float) -> FleetSample:
        sample = super()._sample(now)
        self.samples.append(sample)
        return sample


def record(scenario: Scenario) -> dict[str, Any]:
    fleet = Recorder(scenario.spec, scenario.service, scenario.latency)
    fleet.samples = []
    fleet.run(scenario.arrivals, scenario.seconds)
    poll = scenario.spec.poll_interval_seconds
    return {
        "spec": scenario.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "steps": [
            {"now": index * poll, "sample": _plain(sample), **outcome(decision)}
            for index, (sample, decision) in enumerate(zip(fleet.samples, fleet.decisions, strict=True))
        ],
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
