"""How many workers a TaskQueue needs: a pure function of a sample, a state, a spec and a clock."""

from __future__ import annotations

from .decide import decide
from .decision import Decision
from .recommend import QueueTerms, drain_seconds, horizons, start_seconds
from .sample import NO_OVERRIDES, Overrides, QueueSample, Sample, WorkerSample
from .state import State
from .victims import choose_victims

__all__ = [
    "NO_OVERRIDES",
    "Decision",
    "Overrides",
    "QueueSample",
    "QueueTerms",
    "Sample",
    "State",
    "WorkerSample",
    "choose_victims",
    "decide",
    "drain_seconds",
    "horizons",
    "start_seconds",
]
