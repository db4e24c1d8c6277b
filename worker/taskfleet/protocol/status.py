"""The state of a task, as `Broker.status` and `Broker.link` return it."""

from __future__ import annotations

from typing import Final, NamedTuple

UNKNOWN: Final = "unknown"
ENDED: Final = "ended"
DEAD: Final = "dead"
LINKED: Final = "linked"


class TaskStatus(NamedTuple):
    """The state of a task: running, ready, delayed, blocked, retrying, ended, dead or unknown; linked, after a `link`.

    `record` is the result record of a task that has ended, or its dead letter; otherwise it is empty.
    """

    state: str
    record: bytes
