"""The tally: how many tasks of a worker have ended, with which outcomes, and how long they ran."""

from __future__ import annotations

from collections import Counter, defaultdict

from taskfleet.protocol import outcome
from taskfleet.protocol.partitions import Partition


class Tally:
    """The worker's loop counts; other threads may read."""

    def __init__(self) -> None:
        self.finished = 0  # runs that freed a slot: a batch is one
        self.counts: Counter[tuple[Partition, str]] = Counter()  # by partition and outcome code
        self.busy_seconds: dict[Partition, float] = defaultdict(float)  # by partition
        self.lost_acks = 0  # outcomes of tasks that this worker no longer held

    def outcomes(self) -> dict[tuple[Partition, str], int]:
        """The number of finished tasks, by partition and the name of the outcome."""
        return {(partition, outcome.NAMES[code]): n for (partition, code), n in self.counts.copy().items()}
