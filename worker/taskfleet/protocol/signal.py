"""A signal: the message to a waiting task about the end of another task."""

from __future__ import annotations

from typing import NamedTuple

from taskfleet import foreign
from taskfleet.protocol import result_record, unpacking
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import Seal


class Signal(NamedTuple):
    """The end of the task `source`, for the task `id` that waits for it: lua/queue/signals.lua.

    `value` is the result record of the source, or the reason why there is none. A sealed record belongs to
    `source_partition`.
    """

    partition: Partition
    id: str
    position: int
    source: str
    state: str
    value: bytes
    source_partition: Partition = Partition("")

    @classmethod
    def of_packed(cls, packed: bytes, source_partition: Partition) -> Signal:
        """Read an entry of an outbox. Errors: `ValueError` or `SerializationError` for any other bytes."""
        partition, task_id, position, source, state, value = unpacking.record(packed, most_bytes=len(packed))
        if type(position) is not int or type(value) is not bytes:
            raise foreign.ForeignError("its fields are of other types")
        return cls(
            Partition(foreign.partition(partition)),
            foreign.text(task_id),
            position,
            foreign.text(source),
            foreign.text(state),
            value,
            source_partition,
        )

    def cancellation(self, seal: Seal) -> tuple[bytes, bytes]:
        """For a task that the signal cancels: its result record, and the value for the tasks that wait for it."""
        source_queue = queue_of(self.source_partition)
        if self.source == self.id:  # a signal to itself carries the reason for the cancellation
            reason = self.value.decode()
        else:
            ended = result_record.explain(self.state, self.value, queue=source_queue, task_id=self.source, seal=seal)
            reason = f"task {self.source}, which it waits for, {ended}"
        record = result_record.pack_cancelled(reason)
        record = seal.close("result", queue_of(self.partition), self.id, record)
        # The value may be as secret as the error that it quotes, so it is sealed.
        return record, record if seal.writes else reason.encode()
