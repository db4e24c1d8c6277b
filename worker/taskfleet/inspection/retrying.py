"""Retries a task by hand: a dead letter goes back to its queue."""

from __future__ import annotations

from taskfleet.errors import TaskNotFoundError, TaskStateError
from taskfleet.inspection.source import Source
from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.result_record import CANCELLED
from taskfleet.protocol.status import DEAD, ENDED, UNKNOWN

_ENDED = "it has ended, and the queue keeps only its result: send the task again"


async def retry(source: Source, partition: Partition | None, task_id: str) -> bool:
    """Requeue a dead letter, with all its attempts before it. False for a task that has not ended: it will run anyway.

    Errors: `TaskStateError` says why any other task cannot be retried, `TaskNotFoundError` that there is none.
    """
    broker, state, record = source.broker, UNKNOWN, b""
    if partition is not None:
        state, record = await broker.status(partition, task_id)
    if partition is None or state == UNKNOWN:
        raise TaskNotFoundError(
            f"task {task_id} is not known: it never was here, was purged, or its result has expired"
        )
    if state == ENDED:
        raise TaskStateError(f"task {task_id} cannot be retried: {_ENDED}", task_id=task_id)
    if state != DEAD:
        return False
    queue = queue_of(partition)
    if await broker.requeue_dead(queue, [task_id]):
        return True
    # Another client has requeued it, or it stays.
    state, record = await broker.status(partition, task_id)
    if state != DEAD:
        return False
    letter = DeadLetter.of_packed(task_id, record, queue=queue, seal=source.seal)
    if letter.state == CANCELLED:
        why = "it was cancelled, and a cancelled task never runs"
    elif letter.reason == "unreadable":
        why = "its dead letter is damaged"
    else:
        why = "another task has its unique key: it can be retried when that one has ended"
    raise TaskStateError(f"task {task_id} cannot be retried: {why}", task_id=task_id)
