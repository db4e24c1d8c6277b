"""The records that a queue in memory keeps of a task, beside its envelope: lua/queue/records.lua as Python objects."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskfleet.protocol import dead_letter
from taskfleet.protocol.item import Edge


@dataclass(slots=True)
class History:
    """The record of a task that is not on its first delivery.

    `since_ms` is when it became ready; 0 means when it was enqueued.
    """

    attempt: int = 1
    delivery: int = 0
    crashes: int = 0
    since_ms: int = 0


@dataclass(slots=True)
class Tag:
    """The record that only some tasks have: their keys, and the tasks that wait for them."""

    unique: str | None = None
    limit: str | None = None
    fair: str | None = None
    edges: list[Edge] = field(default_factory=list)
    due: int | None = None  # when it is due by itself, ms, while another task has its unique key


@dataclass(slots=True)
class GatheredResults:
    """The tasks that a blocked task waits for, as numbers, and the results that have come.

    The first `carried` results are passed on to the task.
    """

    pending: int
    total: int
    carried: int
    delay_ms: int
    came: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Letter:
    """A dead letter, with what its task needs to run again."""

    state: str
    attempt: int
    delivery: int
    died_ms: int
    blob: bytes
    record: bytes
    limit: str | None
    fair: str | None
    inputs: list[bytes] | None
    unique: str | None = None

    def packed(self) -> bytes:
        """As `DeadLetter.of_packed` reads it."""
        return dead_letter.pack(self.state, self.attempt, self.delivery, self.died_ms, self.blob, self.record)
