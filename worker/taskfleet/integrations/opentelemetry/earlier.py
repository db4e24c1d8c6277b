"""The run before this one, of a task that is tried again: its trace, and when this run was due.

The worker keeps both with the error of the attempt. They are read only for a retry whose trace is kept, in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from taskfleet import showing
from taskfleet.context import TaskContext
from taskfleet.protocol import attempt_errors, dead_letter
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import Seal
from taskfleet.session import Sessions

logger = showing.logger("taskfleet.opentelemetry")

_SECONDS = 1.0  # for the call: a run is not held up for a link


class EarlierRun(NamedTuple):
    """`traceparent` is '' when the run before was in no trace; `due_ms` is 0 when it is not known."""

    traceparent: str
    due_ms: int


async def earlier_run(sessions: Sessions, seal: Seal, task: TaskContext) -> EarlierRun | None:
    """The attempt before; None when there is none, or when it cannot be read."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_SECONDS):
            found = await sessions.current().broker.inspect(Partition(task.queue), [task.id], most_bytes=0)
        errors = attempt_errors.unpack(found.records[0].errors)
        if errors:
            queue, last = queue_of(Partition(task.queue)), errors[-1]
            trace = dead_letter.trace_in(last.record, queue=queue, task_id=task.id, seal=seal)
            return EarlierRun(trace, last.next_ms)
    return None
