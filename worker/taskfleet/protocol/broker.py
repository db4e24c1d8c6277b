"""The ports to a broker, wherever it keeps its queues: in Redis, or in the memory of one process.

Producers, handles, workers and the lease thread know these interfaces only. They are implemented by `redis/` and by
`memory/`. A parameter named `queue` is the name of a whole queue; a `Partition` is one partition of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from taskfleet.protocol.claim import StepReply
from taskfleet.protocol.clock import Clock
from taskfleet.protocol.item import Edge, Item
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.schedules import Due, Entry, Tick, TickPosition, TickReply
from taskfleet.protocol.sealing import Seal
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions


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

    async def due(self, queues: Sequence[str], *, limit: int, past: Mapping[str, TickPosition] = ...) -> list[Due]: ...

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
