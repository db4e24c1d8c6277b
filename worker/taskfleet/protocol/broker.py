"""The ports to a broker, for queues in Redis and for queues in the memory of one process.

Producers, handles, workers and the lease thread know these interfaces only. They are implemented by `redis/` and by
`memory/`. A parameter named `queue` is the name of a whole queue; a `Partition` is one partition of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # Ports need no class when they run: a worker does without many of these.
    from taskfleet.options import QueueOptions
    from taskfleet.protocol.claim import HeldTask, Renewal, StepReply
    from taskfleet.protocol.clock import Clock
    from taskfleet.protocol.due import Due, TickPosition
    from taskfleet.protocol.figures import Figures, Horizons
    from taskfleet.protocol.heartbeat import HeartbeatFields
    from taskfleet.protocol.introductions import Run
    from taskfleet.protocol.item import Edge, Item
    from taskfleet.protocol.outcome import Outcome
    from taskfleet.protocol.partitions import Partition
    from taskfleet.protocol.progress_report import ProgressReport
    from taskfleet.protocol.schedules import Entry, Tick, TickReply
    from taskfleet.protocol.sealing import Seal
    from taskfleet.protocol.signal import Signal
    from taskfleet.protocol.stats import QueueStats
    from taskfleet.protocol.status import TaskStatus
    from taskfleet.protocol.task_record import Inspection, Place, Structure
    from taskfleet.protocol.worker_info import WorkerInfo


class Schedules(Protocol):
    """The schedules of all queues, each kept in the partition that its tasks go to."""

    async def add(self, partition: Partition, name: str, spec: bytes, next_ms: int) -> int | None:
        """Add or replace a schedule. Returns the next tick, which stays the same if the timing is the same."""
        ...

    async def change(self, before: Entry, spec: bytes, next_ms: int) -> bool:
        """Replace a schedule by another spec; returns False, without any change, if it is not `before` any more."""
        ...

    async def remove(self, partition: Partition, name: str) -> Entry | None:
        """Remove a schedule from one partition and return it."""
        ...

    async def now_ms(self, partition: Partition) -> int:
        """The time in ms by the clock of the partition's schedules."""
        ...

    async def partitions(self) -> list[Partition]:
        """All partitions that may have schedules."""
        ...

    async def entries(self) -> list[Entry]:
        """All schedules, by partition and name."""
        ...

    async def entries_of(self, partition: Partition) -> list[Entry]:
        """The schedules of one partition, by name."""
        ...

    async def due(
        self, partitions: Sequence[Partition], *, limit: int, past: Mapping[Partition, TickPosition] = ...
    ) -> list[Due]:
        """The due schedules of several partitions, at most `limit` of each, without those up to `past`."""
        ...

    async def tick(self, ticks: Sequence[Tick]) -> list[TickReply]: ...

    def changes(self) -> AsyncIterator[str]:
        """The names of schedules as they are added or replaced; empty when messages may have been missed."""
        ...

    async def failed(self, error: BaseException) -> None:
        """React to a failure of `due` or `tick` before trying again."""
        ...


class Broker(Protocol):
    """All operations on queues.

    Errors: `BrokerConnectionError`. The errors of `step`, `report`, `owned`, `unreadable`, `wait_for_work`,
    `occupied`, `call_another` and `deregister` are raised as they are, since a worker calls again anyway.
    """

    @property
    def url(self) -> str: ...

    seal: Seal  # for the records that the broker itself makes

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
        """Close all sockets without waiting, also of a broker whose event loop is closed. It is not used again."""
        ...

    def descriptors(self) -> list[int]:
        """The file descriptors of all open sockets."""
        ...

    async def dropped(self, error: BaseException) -> None:
        """React to a failed call."""
        ...

    # Tasks and workflows.

    async def enqueue(
        self, partition: Partition, items: Sequence[Item], *, max_length: int = 0, room_for: int = 0
    ) -> dict[int, str]:
        """Add tasks in order, all or none if they would exceed `max_length` (`QueueFullError`).

        With `room_for`, there must be room for that number of tasks, of which these are the first. Returns the
        positions that were not added because another task has their unique key, each with the id of that task.
        """
        ...

    async def cancel(self, partition: Partition, task_id: str, record: bytes, ttl_ms: int, reason: str) -> bool:
        """Cancel a task: a waiting one at once, a running one through its worker. Returns whether its state changed.

        `record` is its result record, kept for `ttl_ms`; `reason` is for the tasks that wait for it.
        """
        ...

    async def status(self, partition: Partition, task_id: str, *, announce: bool = False) -> TaskStatus:
        """The state of a task; with `announce` its end is published to `endings`."""
        ...

    async def progress(self, partition: Partition, task_id: str) -> bytes | None:
        """The stamped report of a task that has not ended."""
        ...

    async def holder(self, partition: Partition, unique_key: str) -> str | None:
        """The task that has a unique key at the moment."""
        ...

    async def link(self, partition: Partition, task_id: str, edges: Sequence[Edge]) -> TaskStatus:
        """Let at most `MOST_EDGES` tasks wait for another task. The state is linked, unknown, dead or ended."""
        ...

    async def confirm(self, partition: Partition, ids: Sequence[str]) -> None:
        """Confirm that all parts of a workflow are sent, so that none of them is dropped any more."""
        ...

    async def signal(self, signal: Signal) -> int:
        """Deliver one signal; returns the number of signals in the outbox of the receiving partition."""
        ...

    async def relay(self, partition: Partition) -> None:
        """Deliver the signals in a partition's outbox, and those that they cause in other partitions."""
        ...

    # Workers.

    async def step(
        self, partition: Partition, options: QueueOptions, incarnation: str, slots: int, outcomes: Sequence[Outcome]
    ) -> StepReply:
        """Record outcomes and claim up to `slots` tasks."""
        ...

    async def step_when_called(
        self,
        partition: Partition,
        options: QueueOptions,
        incarnation: str,
        slots: int,
        timeout: float,
        take: Callable[[StepReply], None],
    ) -> None:
        """Wait until this partition calls for a worker, at most `timeout` s, and claim without delay.

        `take` gets the reply as soon as it is there.
        """
        ...

    async def report(self, partition: Partition, incarnation: str, reports: Sequence[ProgressReport]) -> set[str]:
        """Store reports of running tasks; returns the ids of tasks that were taken from it."""
        ...

    async def owned(self, partition: Partition, incarnation: str) -> list[HeldTask]:
        """Every task that this incarnation has claimed, even if the reply to its claim was lost."""
        ...

    async def unreadable(self, partition: Partition, ids: Sequence[str]) -> set[str]:
        """The tasks among `ids` whose payload, or whose results to take, exceed the limit of a reply."""
        ...

    async def wait_for_work(self, partitions: Sequence[Partition], timeout: float) -> Partition | None:
        """Block until one of these partitions calls for a worker; `None` after `timeout` s."""
        ...

    async def occupied(self, partitions: Sequence[Partition]) -> list[Partition]:
        """Those of the partitions in which a worker may find something to do, now or later.

        All others hold neither a task nor a signal.
        """
        ...

    async def call_another(self, partition: Partition) -> None:
        """Pass a notification on to the next waiting worker."""
        ...

    async def deregister(self, worker_id: str) -> None:
        """Delete the record of a worker that has ended."""
        ...

    # Views.

    async def queues(self) -> list[str]:
        """The names of all queues that have ever had a task."""
        ...

    async def partitions(self, queue: str | None = None) -> list[Partition]:
        """All partitions, or those of `queue`, which include at least its first."""
        ...

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        """The figures of several queues, each the sum of its partitions."""
        ...

    async def figures(self, horizons: Mapping[str, Horizons], *, workers: bool = True) -> Figures:
        """The figures of all these queues, each with its horizons, and all workers, in as few calls as possible.

        Without `workers` none are read. A queue whose keys cannot be read is in `Figures.failures`.
        """
        ...

    async def workers(self) -> list[WorkerInfo]:
        """The workers whose heartbeat has not expired."""
        ...

    def dead_letters(self, queue: str, *, offset: int = 0, limit: int = 100) -> AsyncIterator[tuple[str, bytes]]:
        """(id, packed dead letter) of a whole queue, the oldest first in each partition."""
        ...

    async def inspect(self, partition: Partition, ids: Sequence[str], *, most_bytes: int, line: int = 0) -> Inspection:
        """The records of tasks, each of one moment. Of a payload of more than `most_bytes`, only a part is read.

        A ready task is looked for in the first `line` places of the queue.
        """
        ...

    async def places(
        self, partition: Partition, structure: Structure, after: Place | None, *, limit: int
    ) -> list[Place]:
        """The next members of a structure, in its order. Those that stay where they are, are listed once."""
        ...

    async def last_letters(self, partition: Partition, *, limit: int) -> list[Place]:
        """The dead letters of a partition that died last, the latest last."""
        ...

    async def results(self, partition: Partition, cursor: int) -> tuple[list[str], int]:
        """(ids that have a stored result, the next cursor). The cursor is 0 at the start, and at the end."""
        ...

    async def waited_for(self, partition: Partition, task_id: str, near: Sequence[str], *, most: int) -> list[str]:
        """The tasks of this partition that `task_id` waits for: among those of `near`, and then among `most` others."""
        ...

    async def introduced(self, names: Sequence[str]) -> dict[str, str]:
        """Who makes ids with these prefixes, or holds leases of these incarnations, as far as it is known."""
        ...

    async def runs_of(self, worker_id: str) -> Sequence[Run]:
        """The longer runs of a worker, as its last heartbeat tells them."""
        ...

    # Operations on whole queues and on the fleet.

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Requeue dead letters; `None` means all of them. Returns their number.

        A letter stays if another task has its unique key, or if it was cancelled; the log says so.
        """
        ...

    async def purge_dead(self, queue: str) -> int:
        """Delete all dead letters; returns their number."""
        ...

    async def purge(self, queue: str) -> int:
        """Delete all waiting tasks; returns their number."""
        ...

    async def pause(self, queue: str, *, partitions: int = 1) -> None:
        """Pause all partitions in Redis, and the first `partitions`, which may have had no task yet."""
        ...

    async def resume(self, queue: str) -> None: ...

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete all data of these queues, results included."""
        ...

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        """Tell the worker of that name to stop claiming; it reports `drained` when it is empty."""
        ...

    async def uncordon(self, name: str) -> None: ...

    def control(self) -> AsyncIterator[str]:
        """Messages to workers: `cancel ID`, `cordon NAME`; an empty string means that messages may have been missed."""
        ...

    def endings(self, partition: Partition) -> AsyncIterator[tuple[str, bytes | None]]:
        """The ids of tasks whose end was announced, some with their result record; an empty string as in `control`."""
        ...

    def activity(self) -> AsyncIterator[str]:
        """The names of queues of which a partition changes from empty to not empty; an empty string as in `control`."""
        ...


class Renewer(Protocol):
    """The calls of a worker's lease thread. They block, for use in one thread; errors are raised as they are."""

    def renew(
        self, partition: Partition, incarnation: str, lease_ms: int, busy_ms: int, held: Sequence[HeldTask]
    ) -> Renewal:
        """Renew the leases of tasks of one partition."""
        ...

    def heartbeat(self, worker_id: str, name: str, ttl_ms: int, fields: HeartbeatFields) -> bool:
        """Report that the worker is alive; returns whether it is cordoned."""
        ...

    def dropped(self, error: BaseException) -> None:
        """React to a failed call."""
        ...

    def close(self) -> None: ...
