"""A claim, which is a task that a worker holds under a lease; and the reply to a step call, which brings claims.

A claim is a plain tuple, since a worker gets one for every task and a named tuple costs three times as much. Code
unpacks it, or reads it by the indexes below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from taskfleet.protocol import envelope
from taskfleet.protocol.partitions import Partition

TAKEOVERS_PER_STEP = 100
HEAD_BYTES = 300  # bytes of a stored task that hold its name: lua/step.lua

Claim = tuple[Partition, str, bytes, int, int, list[bytes] | None, int]
"""Partition, task id, stamped envelope, attempt, delivery, the results of the tasks that it waited for, and when
it became ready (Unix ms by the clock of Redis), 0 for when it was enqueued."""

CLAIM_PARTITION: Final = 0
CLAIM_ID: Final = 1
CLAIM_BLOB: Final = 2
CLAIM_ATTEMPT: Final = 3
CLAIM_DELIVERY: Final = 4
CLAIM_INPUTS: Final = 5
CLAIM_READY_MS: Final = 6

HeldTask = tuple[str, int]
"""Id and delivery of a held task: together with the worker's incarnation they are the fencing token."""


class Renewal(NamedTuple):
    """The reply to a renewal of leases, as ids.

    `lost` tasks were taken from the worker: their leases had expired. `unknown` tasks are those of which Redis knows
    nothing: it has lost its data, or the tasks have ended elsewhere. No other worker has them or will get them.
    """

    lost: list[str]
    cancelled: list[str]
    unknown: list[str]


class Takeover(NamedTuple):
    """A task whose worker is gone: it waits for another worker, or is a dead letter after too many crashes."""

    id: str
    name: str
    attempt: int
    crashes: int
    dead: bool

    @classmethod
    def of_head(cls, task_id: str, head: bytes, attempt: int, crashes: int, dead: bool) -> Takeover:
        """The takeover, with the name at the start of the stored task if it can be read."""
        try:
            name, _ = envelope.name_of(head[:HEAD_BYTES])
        except Exception:
            name = "?"
        return cls(task_id, name, attempt, crashes, dead)


class StepReply(NamedTuple):
    """The reply to a step: `left` tasks can be claimed at once; the next event is in `horizon_ms` (-1: none).

    `stale` outcomes had no effect, since this worker does not hold their tasks; of `unknown` of these tasks Redis knows
    nothing, and a result of theirs was kept if there was none.
    """

    left: int
    horizon_ms: int
    stale: int
    claims: list[Claim]
    signals: int
    memory_full: bool = False  # no task was claimed, since Redis has no memory left to record a claim
    taken_over: Sequence[Takeover] = ()
    unknown: int = 0
