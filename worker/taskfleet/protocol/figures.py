"""All figures of a fleet in one reading: of its queues and of its workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from taskfleet.errors import TaskQueueError
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo

Horizons = tuple[int, int]
"""How far ahead due work of one queue is counted, in ms: for `due` and `ticks_due`, and for `due_soon` and
`ticks_due_soon`."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures of a fleet in one reading.

    `workers` are those whose heartbeat has not expired. `skipped` is the number of records that were left out because
    no version of Taskfleet wrote them. `failures` are the queues that are not in `stats`, since their keys alone cannot
    be read.
    """

    stats: dict[str, QueueStats]
    workers: list[WorkerInfo]
    skipped: int = 0
    failures: Mapping[str, TaskQueueError] = field(default_factory=dict[str, TaskQueueError])
