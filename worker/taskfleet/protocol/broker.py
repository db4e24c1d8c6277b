"""What a broker does, wherever it keeps its queues: in Redis, or in the memory of one process.

Producers, handles, workers and the lease thread know this interface only. Its two implementations are
`engine.broker.RedisBroker` with `engine.renewal.RedisRenewer`, and `taskfleet.testing.InMemoryBroker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from taskfleet import showing
from taskfleet.errors import QueueFullError
from taskfleet.protocol import envelope, outcome
from taskfleet.protocol.bounds import CHUNK as CHUNK
from taskfleet.protocol.clock import Clock
from taskfleet.protocol.sealing import Seal
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.redis import keys

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions
    from taskfleet.redis.schedules import Due, Entry, Place, Tick, TickReply

logger = showing.logger("taskfleet")

TAKEOVERS_PER_STEP = 100
MOST_EDGES = 500  # that one call may add to a task
HEAD_BYTES = 300  # of a stored task, for its name: lua/step.lua
REPLACEMENTS = 20  # how often a call comes again because another has replaced the task that it was to replace

# id, envelope, delay_ms, eta_ms (0: none), and for some tasks what enqueue.lua calls `more`
Item = tuple[str, bytes, int, int] | tuple[str, bytes, int, int, dict[str, Any]]
# id, delivery, code, busy_ms, result, ttl_ms, extra: see lua/step.lua
Outcome = tuple[str, int, str, int, bytes, int, Any]
# queue, id, stamped envelope, attempt, delivery, results of the tasks that it waited for
Claim = tuple[str, str, bytes, int, int, list[bytes] | None]


class Takeover(NamedTuple):
    """A task whose worker is gone: it waits for another, or is a dead letter when that has happened too often."""

    id: str
    name: str
    attempt: int
    crashes: int
    dead: bool

    @classmethod
    def of_head(cls, task_id: str, head: bytes, attempt: int, crashes: int, dead: bool) -> Takeover:
        """With the name that stands at the start of a stored task, where that can be read."""
        try:
            name, _ = envelope.name_of(head[:HEAD_BYTES])
        except Exception:
            name = "?"
        return cls(task_id, name, attempt, crashes, dead)


# queue, id, position, 1 to be given the result: one of those that wait for a task
Edge = tuple[str, str, int, int]


class StepReply(NamedTuple):
    """What a step call has done: `left` tasks can be claimed at once; the next event is in `horizon_ms` (-1: none)."""

    left: int
    horizon_ms: int
    stale: int
    claims: list[Claim]
    signals: int
    memory_full: bool = False  # nothing was claimed because there is no memory left to write it down
    taken_over: Sequence[Takeover] = ()
    paged: Sequence[tuple[int, int]] = ()  # claims whose results are to be read apart, and how many those are


class Signal(NamedTuple):
    """How a task ended, told to one that waits for it: lua/transitions.lua. `value` is its result record or why not.

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
        source_queue = keys.queue_of(self.source_queue)
        if self.source == self.id:  # nobody else's end: what it was to end with itself
            reason = self.value.decode()
        else:
            ended = outcome.explain(self.state, self.value, queue=source_queue, task_id=self.source, seal=seal)
            reason = f"task {self.source}, which it waits for, {ended}"
        record = outcome.pack_end(outcome.CANCELLED, reason)
        record = seal.close("result", keys.queue_of(self.queue), self.id, record)
        # What is passed on may be as secret as the error that it tells of: then it is the sealed record.
        return record, record if seal.writes else reason.encode()


def replacing(seal: Seal, queue: str, more: dict[str, Any], older: str) -> dict[str, Any]:
    """What enqueue.lua calls `more`, naming the task to replace, with the record of that one's end."""
    return {**more, "x": older, "r": seal.close("result", keys.queue_of(queue), older, more["r"])}


def coming_again(seal: Seal, queue: str, items: Sequence[Item], held: Mapping[int, str]) -> dict[int, Item]:
    """By position, those of the `held` that are to be sent again: each names the task that it is to replace.

    That is the one told, or the one before it among these: a call may hold many of one key.
    """
    before: dict[str, str] = {}  # unique key → the newest so far
    again: dict[int, Item] = {}
    for at in sorted(held):
        item = items[at]
        more = more_of(item)
        if more["m"] != "k":
            older = before.get(more["u"], held[at])
            again[at] = (*item[:4], replacing(seal, queue, more, older))
            before[more["u"]] = item[0]
        elif more["u"] in before:
            again[at] = item  # whom it finds is not settled yet
    return again


def more_of(item: Item) -> dict[str, Any]:
    """What enqueue.lua calls `more`."""
    return item[4] if len(item) > 4 else {}


def kept_letters(queue: str, stay: Sequence[tuple[str, str]]) -> None:
    """Say which dead letters could not be put back: (id, the task that has its unique key, or '')."""
    for task_id, holder in stay[:10]:
        why = f"task {holder} has its unique key" if holder else "it was cancelled, or is damaged"
        logger.warning("queue %s: task %s stays a dead letter: %s", queue, task_id, why)


def queue_full(queue: str, waiting: int, max_length: int) -> QueueFullError:
    return QueueFullError(
        f"queue {queue!r} is full: {waiting} of at most {max_length} tasks wait; try again later or raise max_length"
    )


class Schedules(Protocol):
    """The schedules of all queues: `engine.schedules`. `queue` means a partition."""

    async def add(self, queue: str, name: str, spec: bytes, next_ms: int) -> int | None:
        """Add or replace; returns the next tick, which a timing that is still the same keeps."""
        ...

    async def remove(self, queue: str, name: str) -> Entry | None: ...

    async def now_ms(self, queue: str) -> int: ...

    async def queues(self) -> list[str]: ...

    async def entries(self) -> list[Entry]: ...

    async def entries_of(self, queue: str) -> list[Entry]: ...

    async def due(self, queues: Sequence[str], *, limit: int, past: Mapping[str, Place] = ...) -> list[Due]: ...

    async def tick(self, ticks: Sequence[Tick]) -> list[TickReply]: ...

    def changes(self) -> AsyncIterator[str]:
        """The names of schedules that are added or replaced; empty when something may have been missed."""
        ...

    async def failed(self, error: BaseException) -> None: ...


class Broker(Protocol):
    """All operations on queues. A queue of several partitions has its operations by the partition's name, unless said
    otherwise. Errors: `BrokerConnectionError`; those of `step`, `report`, `owned`, `unreadable`, `wait_for_work`,
    `call_another` and `deregister` pass through as they are, since a worker calls again anyway.
    """

    @property
    def url(self) -> str: ...

    seal: Seal  # for the records that are made here

    @property
    def clock(self) -> Clock: ...

    @property
    def schedules(self) -> Schedules: ...

    @property
    def one_slot_only(self) -> bool:
        """Whether `wait_for_work` takes one partition at a time."""
        ...

    def another(self) -> Broker:
        """A broker on the same queues, for another thread or loop."""
        ...

    def renewer(self) -> Renewer: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Close all sockets without their loop, which is closed."""
        ...

    def descriptors(self) -> list[int]:
        """The file descriptors of all sockets that are open."""
        ...

    async def dropped(self, error: BaseException) -> None:
        """Take note of a failed call."""
        ...

    async def enqueue(
        self, queue: str, items: Sequence[Item], *, max_length: int = 0, room_for: int = 0
    ) -> dict[int, str]:
        """Add tasks in order. All or nothing when `max_length` would be passed (`QueueFullError`).

        With `room_for` there must be room for so many, of which these are the first. Returns which positions were not
        added because another task has their unique key, and that task's id.
        """
        ...

    async def cancel(self, queue: str, task_id: str, record: bytes, ttl_ms: int, reason: str) -> bool: ...

    async def status(self, queue: str, task_id: str, *, announce: bool = False) -> tuple[str, bytes]:
        """(state, result record or dead letter); with `announce` the task's end is told to `endings`."""
        ...

    async def report(self, queue: str, incarnation: str, reports: Sequence[tuple[str, int, bytes]]) -> set[str]:
        """Store (id, delivery, packed report) of running tasks; returns the ids of those that are not ours any more."""
        ...

    async def progress(self, queue: str, task_id: str) -> bytes | None:
        """The stamped report of a task that has not ended."""
        ...

    async def holder(self, queue: str, unique_key: str) -> str | None:
        """The task that has a unique key, for the moment."""
        ...

    async def link(self, queue: str, task_id: str, edges: Sequence[Edge]) -> tuple[str, bytes]:
        """Let at most `MOST_EDGES` tasks wait for another.

        (state, record): linked, unknown, dead and its letter, ended and its record.
        """
        ...

    async def confirm(self, queue: str, ids: Sequence[str]) -> None:
        """All parts of the workflow are sent: nothing of it will be dropped any more."""
        ...

    async def signal(self, signal: Signal) -> int:
        """Deliver one signal; returns how many the receiving partition has in its own outbox now."""
        ...

    async def relay(self, queue: str) -> None:
        """Deliver what stands in a partition's outbox, and what that causes in others'."""
        ...

    async def step(
        self, queue: str, options: QueueOptions, incarnation: str, slots: int, outcomes: Sequence[Outcome]
    ) -> StepReply:
        """Record outcomes and claim up to `slots` tasks."""
        ...

    async def step_when_called(
        self, queue: str, options: QueueOptions, incarnation: str, slots: int, timeout: float
    ) -> StepReply:
        """Wait until this partition calls for a worker, at most `timeout` s, and claim without delay."""
        ...

    async def owned(self, queue: str, incarnation: str) -> list[tuple[str, int]]:
        """(id, delivery) of every task that this incarnation has claimed."""
        ...

    async def unreadable(self, queue: str, ids: Sequence[str]) -> set[str]:
        """Those tasks whose claim, payload and results that they waited for, one reply may not hold here."""
        ...

    async def queues(self) -> list[str]:
        """The names of all queues that ever had a task."""
        ...

    async def partitions(self, queue: str | None = None) -> list[str]:
        """The names of all partitions; with `queue`, of that queue: at least its first."""
        ...

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        """The figures of several queues, each the sum of its partitions."""
        ...

    async def workers(self) -> list[WorkerInfo]: ...

    def dead_letters(self, queue: str, *, offset: int = 0, limit: int = 100) -> AsyncIterator[tuple[str, bytes]]:
        """(id, packed dead letter) of a whole queue, oldest first in each partition."""
        ...

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Put dead letters of a whole queue back; `None` means all of them. Returns how many.

        One whose unique key another task has stays, as does one that was cancelled; the log says so.
        """
        ...

    async def purge_dead(self, queue: str) -> int: ...

    async def purge(self, queue: str) -> int:
        """Drop everything that waits in a whole queue; returns how many tasks that were."""
        ...

    async def pause(self, queue: str) -> None: ...

    async def resume(self, queue: str) -> None: ...

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete everything that belongs to these whole queues, results included."""
        ...

    async def cordon(self, name: str, *, ttl_seconds: float) -> None: ...

    async def uncordon(self, name: str) -> None: ...

    async def wait_for_work(self, queues: Sequence[str], timeout: float) -> str | None:
        """Block until one of these partitions calls for a worker; `None` after `timeout` s."""
        ...

    async def call_another(self, queue: str) -> None:
        """Pass a call for a worker on to the next that waits."""
        ...

    async def deregister(self, worker_id: str) -> None: ...

    def control(self) -> AsyncIterator[str]:
        """What workers are told: `cancel ID`, `cordon NAME`; empty when something may have been missed."""
        ...

    def endings(self, queue: str) -> AsyncIterator[str]:
        """The ids of tasks of a partition that end and that somebody waits for; an empty string as in `control`."""
        ...

    def activity(self) -> AsyncIterator[str]:
        """The names of queues of which a partition goes from empty to not empty; an empty string as in `control`."""
        ...


class Renewer(Protocol):
    """The calls of a worker's lease thread. Blocking, for one thread; errors pass through."""

    def renew(
        self, queue: str, incarnation: str, lease_ms: int, busy_ms: int, held: Sequence[tuple[str, int]]
    ) -> tuple[list[str], list[str]]:
        """Prolong the leases of (id, delivery) in one partition: (ids that are not ours any more, ids to cancel)."""
        ...

    def heartbeat(self, worker_id: str, name: str, ttl_ms: int, fields: Mapping[str, str | int]) -> bool:
        """Say that the worker lives; returns whether it is cordoned."""
        ...

    def dropped(self, error: BaseException) -> None:
        """Take note of a failed call."""
        ...

    def close(self) -> None: ...
