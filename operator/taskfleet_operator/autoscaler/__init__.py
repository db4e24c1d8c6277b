"""How many workers a TaskQueue needs: a pure function of a sample, a state, a spec and a clock."""

from __future__ import annotations

from .decide import decide
from .decision import ScalingDecision
from .draining import DrainingWorker, ScalingSteps, cordon_seconds, next_steps
from .history import ScalingState
from .queue_terms import QueueTerms, drain_seconds, horizons, start_seconds
from .recorded import plain_sample, plain_state
from .replay import RecordedDecision, ReplayedDecision, changed_spec, replay
from .sample import NO_OVERRIDES, FleetSample, QueueSample, ScalingOverrides, WorkerSample
from .start_latency import StartLatencies
from .victims import choose_victims

__all__ = [
    "DrainingWorker",
    "FleetSample",
    "NO_OVERRIDES",
    "QueueSample",
    "QueueTerms",
    "RecordedDecision",
    "ReplayedDecision",
    "ScalingDecision",
    "ScalingOverrides",
    "ScalingState",
    "ScalingSteps",
    "StartLatencies",
    "WorkerSample",
    "changed_spec",
    "choose_victims",
    "cordon_seconds",
    "decide",
    "drain_seconds",
    "horizons",
    "next_steps",
    "plain_sample",
    "plain_state",
    "replay",
    "start_seconds",
]
