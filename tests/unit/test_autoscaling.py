"""The decisions of the in-process autoscaler, as tables."""

from __future__ import annotations

import pytest

from taskfleet.embedded.autoscaling import LocalDecision, LocalSample, Memory, Pace, decide
from taskfleet.settings import AutoscalerSettings

LIMITS = AutoscalerSettings(
    min_workers=1, max_workers=6, scale_up_threshold=5, scale_down_threshold=1, scale_up_count=2, scale_down_count=1
)
PACE = Pace(looks_up=2, looks_down=3, settle=5.0)
SLOTS = 10
READY = Memory(above=1, below=2)  # the next sample that agrees acts


def sample(ready: int, workers: int, busy: int | None = None, at: float = 100.0) -> LocalSample:
    """Without `busy`, all slots are in use."""
    return LocalSample(at, ready, workers, workers * SLOTS if busy is None else busy, workers * SLOTS)


@pytest.mark.parametrize(
    ("given", "change", "reason"),
    [
        # At the limits, at once.
        (sample(0, 0), 1, "min_workers=1"),
        (sample(0, 9), -3, "max_workers=6"),
        # More.
        (sample(11, 2), 2, "11 ready tasks are 5.5 for each of 2 workers, more than scale_up_threshold=5"),
        (sample(100, 5), 1, "more than scale_up_threshold=5"),  # no further than max_workers
        (sample(100, 6), 0, "but max_workers=6"),
        (sample(10, 2), 0, "10 ready tasks are 5 for each of 2 workers"),  # at the threshold is not above it
        (sample(100, 2, busy=10), 0, "but 10 slots are free"),
        (sample(100, 2, busy=11), 2, "more than scale_up_threshold=5"),
        # Fewer.
        (sample(1, 2, busy=3), -1, "1 ready tasks are 0.5 for each of 2 workers, less than scale_down_threshold=1"),
        (sample(2, 2, busy=3), 0, "2 ready tasks are 1 for each of 2 workers"),
        (sample(0, 1, busy=0), 0, "0 ready tasks are 0 for each of 1 workers"),  # no further than min_workers
        (sample(0, 3, busy=20), -1, "less than scale_down_threshold=1"),
        (sample(0, 3, busy=21), 0, "but 21 tasks run, which would not fit into 2"),
    ],
)
def test_one_look(given: LocalSample, change: int, reason: str) -> None:
    decision = decide(given, LIMITS, PACE, READY)
    assert decision.change == change
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("loads", "changes"),
    [
        # Ready tasks in samples one second apart, for two workers with half of their slots busy; and the decisions.
        ("hi hi hi hi hi hi hi", "0 2 0 0 0 0 2"),  # two samples, then time to settle
        ("hi ok hi ok hi ok hi", "0 0 0 0 0 0 0"),  # one sample is not a trend
        ("lo lo lo lo", "0 0 -1 0"),
        ("lo lo hi lo lo", "0 0 0 0 0"),
        ("hi hi lo lo lo lo lo lo", "0 2 0 0 0 0 -1 0"),  # no change back before the first one has its effect
        ("hi lo hi lo hi lo hi lo", "0 0 0 0 0 0 0 0"),
    ],
)
def test_a_change_needs_agreement_and_time_to_settle(loads: str, changes: str) -> None:
    ready = {"hi": 100, "ok": 4, "lo": 0}
    memory, made = Memory(), []
    for at, load in enumerate(loads.split()):
        busy = 20 if load == "hi" else 5
        decision = decide(sample(ready[load], 2, busy=busy, at=float(at)), LIMITS, PACE, memory)
        memory = decision.memory
        made.append(decision.change)
    assert made == [int(change) for change in changes.split()]


def test_a_steady_load_reaches_a_number_of_workers_and_stays_there() -> None:
    """Forty tasks arrive each second, and every worker runs ten."""
    workers, backlog, memory = 1, 0.0, Memory()
    changes: list[tuple[int, int]] = []
    for second in range(300):
        backlog = max(0.0, backlog + 40 - 10 * workers)
        busy = min(workers * SLOTS, 40)
        decision: LocalDecision = decide(sample(int(backlog), workers, busy, float(second)), LIMITS, PACE, memory)
        memory = decision.memory
        workers += decision.change
        if decision.change:
            changes.append((second, workers))
    assert 4 <= workers <= 6
    assert len(changes) <= 5, changes
    assert all(second < 60 for second, _ in changes), changes
