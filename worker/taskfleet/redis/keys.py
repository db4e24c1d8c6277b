"""The names of all keys in Redis.

One hash tag per queue, so that everything a script touches lives in one cluster slot, and one for the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass

QUEUE_PARTS = (
    "ready", "task", "meta", "lease", "owner", "delayed", "dead", "letter", "stat", "control", "wake", "cancel",
    "await", "tag", "unique", "fair", "turns", "parked", "slots", "arrivals", "retry_at", "blocked", "gather", "input",
    "outbox", "progress", "edges", "jobs",
)  # fmt: skip

# Of no interest to the scripts that move tasks, which are called far more often: they are declared where they are used.
_SCHEDULE_PARTS = ("schedules", "ticks", "ticked")


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The keys of one queue, in the order in which every script declares them.

    1 ready (list of ids, head first) · 2 task (id → stamped envelope) · 3 meta (id → attempt:delivery:crashes:ready_ms,
    only for what is not on its first try) · 4 lease (id → deadline, ms) · 5 owner (id → fencing token) ·
    6 delayed (id → due, ms) · 7 dead (id → died, ms) · 8 letter (id → dead letter) · 9 stat (counters) ·
    10 control (paused; large: some payloads are) · 11 wake (list that idle workers block on) ·
    12 cancel (ids to cancel) ·
    13 await (ids whose end is published) · 14 tag (id → what only some tasks have: lua/queue/records.lua) ·
    15 unique (unique key → id; with a NUL behind it → the one that comes after) · 16 fair (id → its turn) ·
    17 turns (fair key → its last turn) ·
    18 parked (limit key, number, id: waits for its key) · 19 slots (limit key → running) ·
    20 arrivals (limit key → theoretical arrival time, ms) · 21 retry_at (limit key → next token, ms) ·
    22 blocked (id → when it is dropped, ms, unless its workflow is whole) · 23 gather (id → what it waits for;
    id:position → result that has come) · 24 input (id → results passed on to it) · 25 outbox (signals to other
    queues) · 26 progress (id → stamped report) · 27 edges (id:number → some of the many that wait for a task) ·
    28 jobs (what is too much for one call, worked off in many: lua/drain.lua)
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
    def owner(self) -> str:
        return self.all[4]

    @property
    def blocked(self) -> str:
        return self.all[21]

    @property
    def task(self) -> str:
        return self.all[1]

    @property
    def unique(self) -> str:
        return self.all[14]

    @property
    def gather(self) -> str:
        return self.all[22]

    @property
    def outbox(self) -> str:
        return self.all[24]

    @property
    def schedules(self) -> tuple[str, str, str]:
        """schedules (name → spec), ticks (name → next tick, ms), ticked (name → its last tick, and counters)."""
        first, second, third = (f"{self.prefix}:{{{self.queue}}}:{part}" for part in _SCHEDULE_PARTS)
        return first, second, third

    @property
    def progress(self) -> str:
        return self.all[25]

    @property
    def done_channel(self) -> str:
        return f"{self.prefix}:{{{self.queue}}}:done"

    def sender(self, sender: str) -> str:
        return f"{self.prefix}:{{{self.queue}}}:s:{sender}"

    def result(self, task_id: str) -> str:
        return f"{self.prefix}:{{{self.queue}}}:r:{task_id}"


def of_queue(prefix: str, queue: str) -> QueueKeys:
    return QueueKeys(queue, prefix, tuple(f"{prefix}:{{{queue}}}:{part}" for part in QUEUE_PARTS))


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

    @property
    def schedules_channel(self) -> str:
        return f"{self.prefix}:{{fleet}}:schedules"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}:{{fleet}}:worker:{worker_id}"

    def cordon(self, name: str) -> str:
        return f"{self.prefix}:{{fleet}}:cordon:{name}"
