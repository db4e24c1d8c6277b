"""Calls on tasks that wait for other tasks: link, resolve, drain."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.protocol.item import Edge, pack_edges
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.result_record import CANCELLED_TTL_MS
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.status import TaskStatus
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.calls.tasks import task_status
from taskfleet.redis.keys import FleetKeys, QueueKeys


def link(keys: QueueKeys, task_id: str, edges: Sequence[Edge]) -> ScriptCall[TaskStatus]:
    """Let tasks of any partition wait for a task of this partition."""
    return ScriptCall(scripts.LINK, (*keys, keys.result(task_id)), (task_id, pack_edges(edges)), task_status)


def resolve(
    keys: QueueKeys, fleet: FleetKeys, signal: Signal, *, cancelled_record: bytes, told: bytes
) -> ScriptCall[int]:
    """Deliver a signal. The reply is the number of signals in the outbox of the receiving partition.

    If the waiting task is cancelled by the signal, `cancelled_record` becomes its record, and the tasks that wait for
    it get `told`.
    """
    args = (
        signal.id, signal.position, signal.state, signal.value, cancelled_record, CANCELLED_TTL_MS,
        keys.done_channel, told, fleet.activity, queue_of(signal.partition),
    )  # fmt: skip
    return ScriptCall(scripts.RESOLVE, (*keys, keys.result(signal.id)), args, int)


def drain(keys: QueueKeys, fleet: FleetKeys, partition: Partition) -> ScriptCall[int]:
    """Continue work that was too much for one call. The reply: the amount that is left."""
    return ScriptCall(scripts.DRAIN, keys, (fleet.activity, queue_of(partition)), int)
