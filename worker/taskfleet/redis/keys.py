"""The names of all keys in Redis.

Each partition has one hash tag, so that all keys of a script are in one cluster slot. The fleet has one as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition

QUEUE_PARTS = (
    "ready", "task", "meta", "lease", "owner", "delayed", "dead", "letter", "stat", "control", "wake", "cancel",
    "await", "tag", "unique", "fair", "turns", "parked", "slots", "arrivals", "retry_at", "blocked", "gather", "input",
    "outbox", "progress", "edges", "jobs", "errors",
)  # fmt: skip


class _Structures(NamedTuple):
    ready: str  # list of ids, head first
    task: str  # id → stamped envelope
    meta: str  # id → attempt:delivery:crashes:ready_ms, for tasks that are not on their first try
    lease: str  # id → deadline, ms
    owner: str  # id → fencing token
    delayed: str  # id → due, ms
    dead: str  # id → died, ms
    letter: str  # id → dead letter
    stat: str  # counters
    control: str  # paused; large (some payloads are); tokens of the rate limit; the current turn
    wake: str  # list that idle workers block on
    cancel: str  # ids to cancel
    awaited: str  # ids whose end is published
    tag: str  # id → fields that only some tasks have: lua/queue/records.lua
    unique: str  # unique key → id; with a NUL behind it → the task that follows
    fair: str  # id → its turn
    turns: str  # fair key → its last turn
    parked: str  # limit key, number, id: a task that waits for its key
    slots: str  # limit key → running
    arrivals: str  # limit key → theoretical arrival time, ms
    retry_at: str  # limit key → next token, ms
    blocked: str  # id → time (ms) when it is dropped, unless its workflow is complete
    gather: str  # id → the number of tasks it waits for; id:position → a result that has arrived
    input: str  # id → results passed on to it
    outbox: str  # signals to other partitions
    progress: str  # id → stamped report
    edges: str  # id:number → some of the many tasks that wait for a task
    jobs: str  # work that is too much for one call, done in several: lua/drain.lua
    errors: str  # id → the errors of its attempts that failed: lua/queue/errors.lua


class ScheduleKeys(NamedTuple):
    """The keys of a partition's schedules.

    The scripts that move tasks are called far more often and do not use them.
    """

    specs: str  # name → spec
    ticks: str  # name → next tick, ms
    ticked: str  # name → its last tick, and counters


class QueueKeys(_Structures):
    """The keys of one partition: a tuple in the order in which every script declares them."""

    base: str  # the prefix of all keys of the partition
    done_channel: str
    ended_channel: str  # as `done_channel`, with the result behind the id and a NUL; versions before 0.2 do not know it

    @property
    def schedules(self) -> ScheduleKeys:
        return ScheduleKeys(f"{self.base}schedules", f"{self.base}ticks", f"{self.base}ticked")

    @property
    def work(self) -> Sequence[str]:
        """The keys of tasks, and of what comes after them: without any of them a step has nothing to do."""
        return (
            self.ready, self.lease, self.delayed, self.tag, self.fair, self.parked, self.blocked, self.input,
            self.outbox, self.jobs, self.arrivals, self.retry_at,
        )  # fmt: skip

    @property
    def history(self) -> str:
        """The rings of a queue's figures over time; only the first partition of a queue has them."""
        return f"{self.base}history"

    def sender(self, sender: str) -> str:
        """The key of a sender's last enqueue call."""
        return f"{self.base}s:{sender}"

    def result(self, task_id: str) -> str:
        return f"{self.base}r:{task_id}"

    def held(self, job: str) -> str:
        """The key of the dead letters that a job has discarded and can bring back."""
        return f"{self.base}held:{job}"


def of_partition(prefix: str, partition: str) -> QueueKeys:
    """The keys of a partition; the keys of a queue's first partition have the queue's name."""
    base = f"{prefix}:{{{partition}}}:"
    keys = QueueKeys._make(base + part for part in QUEUE_PARTS)
    keys.base, keys.done_channel, keys.ended_channel = base, f"{base}done", f"{base}ended"
    return keys


def literal(text: str) -> str:
    """`text` as a glob pattern that matches only `text`."""
    return "".join(f"\\{c}" if c in "*?[]^-\\" else c for c in text)


def partitions_among(members: Iterable[bytes], skipped: foreign.Skipped) -> set[Partition]:
    """The partitions among the listed names. An invalid name is skipped, since it would lead to unrelated keys."""
    found: set[Partition] = set()
    for member in members:
        try:
            found.add(Partition(foreign.partition(member)))
        except foreign.ForeignError as error:
            skipped.add("queue name", member, error)
    return found


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

    @property
    def audit(self) -> str:
        return f"{self.prefix}:{{fleet}}:audit"

    def note(self, name: str) -> str:
        """A document of the dashboard."""
        return f"{self.prefix}:{{fleet}}:note:{name}"

    @property
    def recorder(self) -> str:
        """Who records the history of all queues now."""
        return f"{self.prefix}:{{fleet}}:recorder"

    @property
    def scalers(self) -> str:
        """Scaler → its last decision, ms."""
        return f"{self.prefix}:{{fleet}}:scalers"

    @property
    def latest(self) -> str:
        """Scaler → a summary of its last decision."""
        return f"{self.prefix}:{{fleet}}:latest"

    def decisions(self, scaler: str) -> str:
        """The list of a scaler's decisions of the last hour, oldest first."""
        return f"{self.prefix}:{{fleet}}:decisions:{scaler}"

    def replicas(self, scaler: str) -> str:
        """The ring of a scaler's replicas over the last day."""
        return f"{self.prefix}:{{fleet}}:replicas:{scaler}"

    def worker(self, worker_id: str) -> str:
        return f"{self.prefix}:{{fleet}}:worker:{worker_id}"

    def who(self, name: str) -> str:
        """Who makes ids with that prefix, or who holds leases of that incarnation."""
        return f"{self.prefix}:{{fleet}}:who:{name}"

    def cordon(self, name: str) -> str:
        return f"{self.prefix}:{{fleet}}:cordon:{name}"

    def hold(self, name: str) -> str:
        """The cordon by a person, which no control loop lifts."""
        return f"{self.prefix}:{{fleet}}:hold:{name}"

    def mark(self, name: str) -> str:
        return f"{self.prefix}:{{fleet}}:mark:{name}"
