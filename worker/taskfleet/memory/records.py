"""The records that a queue in memory keeps for a task besides its envelope: lua/queue/records.lua as objects."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskfleet.protocol import dead_record
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.item import Edge


@dataclass(slots=True)
class AttemptHistory:
    """The record of a task that is not on its first delivery.

    `since_ms` is the time when it became ready; 0 means when it was enqueued.
    """

    attempt: int = 1
    delivery: int = 0
    crashes: int = 0
    since_ms: int = 0


@dataclass(slots=True)
class Tag:
    """The record of tasks with a key or a workflow: their keys, and the tasks that wait for them."""

    unique: str | None = None
    limit: str | None = None
    fair: str | None = None
    edges: list[Edge] = field(default_factory=list)
    due: int | None = None  # the time (ms) when it is due, while another task has its unique key


@dataclass(slots=True)
class GatheredResults:
    """The tasks that a blocked task waits for, as numbers, and the results that have arrived.

    The first `carried` results are passed on to the task.
    """

    pending: int
    total: int
    carried: int
    delay_ms: int
    came: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Letter:
    """A dead letter, with the data that its task needs to run again."""

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
    errors: list[StoredError] = field(default_factory=list)  # of its earlier attempts

    def packed(self) -> bytes:
        """The letter in the form that `DeadLetter.of_packed` reads."""
        return self.with_blob(self.blob)

    def with_blob(self, blob: bytes) -> bytes:
        keys = {"l": self.limit, "f": self.fair, "u": self.unique}
        return dead_record.pack(
            self.state, self.attempt, self.delivery, self.died_ms, blob, self.record,
            {letter: key for letter, key in keys.items() if key is not None}, self.errors,
        )  # fmt: skip
