"""A signal: how a task ended, told to one that waits for it."""

from __future__ import annotations

from typing import NamedTuple

from taskfleet.protocol import result_record
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.sealing import Seal


class Signal(NamedTuple):
    """How a task ended, told to one that waits for it: lua/queue/signals.lua. `value` is its result record or why not.

    `source_queue` is needed to open a sealed value.
    """

    queue: str
    id: str
    position: int
    source: str
    state: str
    value: bytes
    source_queue: str = ""

    def cancellation(self, seal: Seal) -> tuple[bytes, bytes]:
        """Should the task that waits be cancelled for this: its result record, and what those after it are told."""
        source_queue = queue_of(self.source_queue)
        if self.source == self.id:  # nobody else's end: what it was to end with itself
            reason = self.value.decode()
        else:
            ended = result_record.explain(self.state, self.value, queue=source_queue, task_id=self.source, seal=seal)
            reason = f"task {self.source}, which it waits for, {ended}"
        record = result_record.pack_cancelled(reason)
        record = seal.close("result", queue_of(self.queue), self.id, record)
        # What is passed on may be as secret as the error that it tells of: then it is the sealed record.
        return record, record if seal.writes else reason.encode()
