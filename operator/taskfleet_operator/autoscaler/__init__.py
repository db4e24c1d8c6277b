"""How many workers a TaskQueue needs: a pure function of a sample, a state, a spec and a clock."""

from __future__ import annotations

from .decide import decide
from .decision import ScalingDecision
from .recommend import QueueTerms, drain_seconds, horizons, start_seconds
from .sample import NO_OVERRIDES, FleetSample, QueueSample, ScalingOverrides, WorkerSample
from .state import ScalingState
from .victims import choose_victims

__all__ = [
    "NO_OVERRIDES",
    "ScalingDecision",
    "ScalingOverrides",
    "QueueSample",
    "QueueTerms",
    "FleetSample",
    "ScalingState",
    "WorkerSample",
    "choose_victims",
    "decide",
    "drain_seconds",
    "horizons",
    "start_seconds",
]
