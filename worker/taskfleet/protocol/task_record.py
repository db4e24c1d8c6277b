"""The record of a task: everything that a queue knows of it at one moment, as lua/inspect.lua reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

Structure = Literal["lease", "ready", "fair", "delayed", "parked", "blocked", "dead"]
"""A structure in which tasks wait, run or lie: `lease` has those that run, `dead` the dead letters."""

MOST_INSPECTED: Final = 50  # tasks in one call


class TaskRecord(NamedTuple):
    """One task. Times are in ms; 0, -1 or '' stand for what it does not have.

    `state` is that of `TaskStatus`. Of a payload that is too large, `blob` has the first bytes; a result that is too
    large is missing. `size` and `record_size` are the true sizes. `owner` is the incarnation of its worker.
    `ahead` tasks come before it in line, -1 when they were not counted. `pending` tasks have to end before it runs.
    `holder` has its unique key. `key_runs` tasks of its limit key run, and the next may start at `key_at_ms`, if a
    rate limit says so. A result is kept for `kept_ms` more.
    """

    id: str
    state: str
    blob: bytes = b""
    size: int = 0
    attempt: int = 1
    delivery: int = 0
    crashes: int = 0
    since_ms: int = 0
    owner: str = ""
    lease_ms: int = 0
    due_ms: int = 0
    unique: str | None = None
    limit: str | None = None
    fair: str | None = None
    parked: bool = False
    ahead: int = -1
    pending: int = 0
    holder: str = ""
    cancelling: bool = False
    record: bytes = b""
    record_size: int = 0
    progress: bytes = b""
    errors: bytes = b""
    key_runs: int = 0
    key_at_ms: int = 0
    kept_ms: int = 0


class Inspection(NamedTuple):
    """Some tasks of one partition, and what of the partition they depend on, at the same moment.

    `records` are those of the first ids: where tasks are large, fewer than were asked for. `tokens` of the rate limit
    were there at `filled_ms`; `None` when the queue has had no such limit.
    """

    now_ms: int
    paused: bool
    running: int
    tokens: float | None
    filled_ms: int
    records: Sequence[TaskRecord]


class Place(NamedTuple):
    """A member of a structure: its score, or its index in a list."""

    position: float
    member: bytes

    @property
    def id(self) -> str | None:
        """The id of the task; `None` for a member that another program has written."""
        _, _, task_id = self.member.rpartition(b"\0")  # in `parked` it follows the limit key
        try:
            return task_id.decode() or None
        except UnicodeDecodeError:
            return None
