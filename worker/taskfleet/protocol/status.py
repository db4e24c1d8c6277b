"""The state of a task, as `Broker.status` and `Broker.link` return it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

UNKNOWN: Final = "unknown"
ENDED: Final = "ended"
DEAD: Final = "dead"
LINKED: Final = "linked"


Status = Literal[
    "delayed", "blocked", "ready", "running", "retrying", "succeeded", "failed", "dead", "cancelled", "expired",
    "unknown",
]  # fmt: skip
"""The state of a task, as an application sees it."""


class TaskStatus(NamedTuple):
    """The state of a task: running, ready, delayed, blocked, retrying, ended, dead or unknown; linked, after a `link`.

    `record` is the result record of a task that has ended, or its dead letter; otherwise it is empty.
    """

    state: str
    record: bytes
