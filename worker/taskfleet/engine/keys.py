"""The names of all keys in Redis.

One hash tag per queue, so that everything a script touches lives in one cluster slot, and one for the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass

_QUEUE_PARTS = (
    "ready", "task", "meta", "lease", "owner", "delayed", "dead", "letter", "stat", "control", "wake", "cancel",
    "await",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue, in the order in which every script declares them.

    1 ready (list of ids, head first) · 2 task (id → stamped envelope) · 3 meta (id → attempt:delivery:crashes:ready_ms,
    only for what is not on its first try) · 4 lease (id → deadline, ms) · 5 owner (id → fencing token) ·
    6 delayed (id → due, ms) · 7 dead (id → died, ms) · 8 letter (id → dead letter) · 9 stat (counters) ·
    10 control (paused) · 11 wake (list that idle workers block on) · 12 cancel (ids to cancel) ·
    13 await (ids whose end is published)
    """

    queue: str
    prefix: str
    all: tuple[str, ...]

    @property
    def wake(self) -> str:
        return self.all[10]

    @property
    def control(self) -> str:
        return self.all[9]

    @property
    def done_channel(self) -> str:
        return f"{self.prefix}:{{{self.queue}}}:done"

    def result(self, task_id: str) -> str:
        return f"{self.prefix}:{{{self.queue}}}:r:{task_id}"


def of_queue(prefix: str, queue: str) -> QueueKeys:
    return QueueKeys(queue, prefix, tuple(f"{prefix}:{{{queue}}}:{part}" for part in _QUEUE_PARTS))


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """The keys that belong to no queue."""

    prefix: str

    @property
    def queues(self) -> str:
        return f"{self.prefix}:queues"

    @property
    def activity(self) -> str:
        return f"{self.prefix}:activity"

    @property
    def workers(self) -> str:
        return f"{self.prefix}:{{fleet}}:workers"

    @property
    def control_channel(self) -> str:
        return f"{self.prefix}:{{fleet}}:control"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}:{{fleet}}:worker:{worker_id}"

    def cordon(self, name: str) -> str:
        return f"{self.prefix}:{{fleet}}:cordon:{name}"
