"""The broker in memory, which needs no Redis."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from taskfleet.errors import ConfigurationError
from taskfleet.memory.enqueued import EnqueuedTask, enqueued_tasks
from taskfleet.memory.inspecting import InMemoryViews
from taskfleet.memory.renewal import InMemoryRenewer
from taskfleet.memory.schedules import InMemorySchedules
from taskfleet.memory.store import Accepted, MemoryStore
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.claim import HeldTask, StepReply
from taskfleet.protocol.dead_record import warn_of_kept
from taskfleet.protocol.figures import Figures, Horizons
from taskfleet.protocol.heartbeat import FIELDS
from taskfleet.protocol.item import ITEM_EXTRAS, Edge, Item
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition, first_of, queue_of
from taskfleet.protocol.progress_report import ProgressReport
from taskfleet.protocol.replacing import enqueue_replacing
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.status import TaskStatus
from taskfleet.protocol.worker_info import WorkerInfo

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions

SCHEME = "memory://"
_named: dict[tuple[str, str], MemoryStore] = {}


class InMemoryBroker(InMemoryViews):
    """Queues in the memory of this process with the semantics of those in Redis, for tests and for first steps.

        queue = TaskQueue(broker=InMemoryBroker())   # a separate memory
        queue = TaskQueue("memory://shop")           # shared by every TaskQueue of that address in this process

    The queues end with the process, no other process sees them, and no socket is opened. `clock` gives the time in
    milliseconds; `advance` moves the time forward without waiting.
    """

    def __init__(self, *, clock: Callable[[], float] | None = None, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore(clock)
        self.url = SCHEME
        self.seal: Seal = PLAIN
        self.one_slot_only = False
        self.schedules = InMemorySchedules(self.store, self._sealed_end)
        self.clock = self.store.clock

    @classmethod
    def of_url(cls, url: str, prefix: str = "") -> InMemoryBroker:
        """`memory://` is a separate memory; `memory://name` is shared by all of that name and prefix.

        Errors: `ConfigurationError` for any other URL.
        """
        name = url.removeprefix(SCHEME)
        if not url.startswith(SCHEME) or "/" in name or "?" in name:
            raise ConfigurationError(f"{url!r} is no address of a memory broker; write memory:// or memory://name")
        broker = cls(store=_named.setdefault((name, prefix), MemoryStore()) if name else None)
        broker.url = url
        return broker

    def another(self) -> InMemoryBroker:
        """A broker on the same queues, for another thread or loop."""
        broker = copy.copy(self)
        broker.schedules = InMemorySchedules(broker.store, broker._sealed_end)
        return broker

    def renewer(self) -> InMemoryRenewer:
        return InMemoryRenewer(self.store)

    def _sealed_end(self, queue: str, task_id: str, record: bytes) -> bytes:
        return self.seal.close("result", queue, task_id, record)

    # For tests.

    def advance(self, seconds: float) -> None:
        """Move the time forward without waiting.

        Delayed and retried tasks become due, limits refill, results expire; `expires`, `max_age` and the timeouts of
        running tasks follow. Leases are renewed, as their workers would have done, but not those of crashed workers.
        """
        self.store.advance(seconds)

    def enqueued(self, name: str | None = None) -> list[EnqueuedTask]:
        """The accepted tasks (of that name) in order, with any outcome; the last 10,000."""
        return enqueued_tasks(self.store.accepted, self.seal, name)

    def forget(self) -> None:
        """Delete all queues and the list of `enqueued`."""
        for name in self.store.models:
            self.store.forget(name)
        self.store.known.clear()
        self.store.accepted.clear()

    # The same as with Redis.

    async def ping(self) -> None:
        """The memory is always available."""

    async def close(self) -> None:
        """There is nothing to close: the queues remain for the brokers that share them."""

    def abandon(self) -> None:
        """There is nothing to close."""

    def descriptors(self) -> list[int]:
        """There are no sockets."""
        return []

    async def dropped(self, error: BaseException) -> None:
        """No call can fail."""

    # Producers.

    async def enqueue(
        self, partition: Partition, items: Sequence[Item], *, max_length: int = 0, room_for: int = 0
    ) -> dict[int, str]:
        """Add tasks in order, all or none if they would exceed `max_length` (`QueueFullError`)."""
        with self.store.lock:
            self.store.known.add(partition)
            self.store.introduce()
            holders: dict[int, str] = {}
            for start in range(0, len(items), CHUNK):
                chunk = items[start : start + CHUNK]
                total = max(len(items), room_for) - start
                held = await self._enqueue_chunk(partition, chunk, max_length, total)
                holders |= {start + position: holder for position, holder in held.items()}
                max_length = 0  # the first call has made sure of room for all
            return holders

    async def _enqueue_chunk(
        self, partition: Partition, items: Sequence[Item], max_length: int, total: int
    ) -> dict[int, str]:
        async def enqueue(some: Sequence[Item]) -> dict[int, str]:
            return await self._enqueue_call(partition, some, max_length, total if some is items else len(some))

        return await enqueue_replacing(self.seal, partition, items, enqueue)

    async def _enqueue_call(
        self, partition: Partition, items: Sequence[Item], max_length: int, total: int
    ) -> dict[int, str]:
        with self.store.queue(partition) as model:
            fresh = {task_id: blob for task_id, blob, *_ in items if task_id not in model.tasks}
            holders = model.enqueue(self.store.now(), items, max_length, total)
            self.store.accepted.extend(
                Accepted(partition, task_id, blob, model.delayed.score(task_id) or 0, model.now)
                for task_id, blob in fresh.items()
                if task_id in model.tasks
            )
            signals = len(model.outbox)
        if signals and any(item[ITEM_EXTRAS] is not None for item in items):
            await self.relay(partition)  # other tasks were waiting for a task that was replaced
        return holders

    async def cancel(self, partition: Partition, task_id: str, record: bytes, ttl_ms: int, reason: str) -> bool:
        with self.store.queue(partition) as model:
            changed, signals = model.cancel(self.store.now(), task_id, record, ttl_ms, reason)
        if signals:
            await self.relay(partition)
        return changed

    # Workflows.

    async def holder(self, partition: Partition, unique_key: str) -> str | None:
        """The task that has a unique key at the moment."""
        with self.store.queue(partition) as model:
            found = model.unique.get(unique_key)
            return found if found in model.tasks else None

    async def link(self, partition: Partition, task_id: str, edges: Sequence[Edge]) -> TaskStatus:
        """Let tasks wait for another task. The state is linked, unknown, dead or ended."""
        with self.store.queue(partition) as model:
            return model.link(self.store.now(), task_id, edges)

    async def confirm(self, partition: Partition, ids: Sequence[str]) -> None:
        with self.store.queue(partition) as model:
            model.confirm(ids)

    async def signal(self, signal: Signal) -> int:
        with self.store.queue(signal.partition) as model:
            return model.deliver(self.store.now(), signal, *signal.cancellation(self.seal))

    async def relay(self, partition: Partition) -> None:
        """Deliver the signals in a partition's outbox, and those that they cause in other partitions."""
        waiting = [partition]
        with self.store.lock:
            while waiting:
                source = waiting.pop()
                with self.store.queue(source) as model:
                    outbox = model.outbox
                while outbox:
                    signal = outbox[0]
                    receiver = signal.partition
                    if await self.signal(signal) and receiver != source and receiver not in waiting:
                        waiting.append(receiver)
                    outbox.remove(signal)

    # Workers.

    async def step(
        self, partition: Partition, options: QueueOptions, incarnation: str, slots: int, outcomes: Sequence[Outcome]
    ) -> StepReply:
        """Record outcomes and claim up to `slots` tasks."""
        with self.store.queue(partition) as model:
            return model.step(self.store.now(), options, incarnation, slots, outcomes)

    async def step_when_called(
        self,
        partition: Partition,
        options: QueueOptions,
        incarnation: str,
        slots: int,
        timeout: float,
        take: Callable[[StepReply], None],
    ) -> None:
        """Wait until this partition calls for a worker, at most `timeout` s, and claim."""
        await self.wait_for_work([partition], timeout)
        take(await self.step(partition, options, incarnation, slots, []))

    async def owned(self, partition: Partition, incarnation: str) -> list[HeldTask]:
        with self.store.queue(partition) as model:
            return [(task_id, delivery) for task_id, (owner, delivery) in model.owners.items() if owner == incarnation]

    async def unreadable(self, partition: Partition, ids: Sequence[str]) -> set[str]:
        """No task is unreadable, since no reply has a limit."""
        return set()

    async def report(self, partition: Partition, incarnation: str, reports: Sequence[ProgressReport]) -> set[str]:
        """Store reports of running tasks; returns the ids of tasks that were taken from it."""
        with self.store.queue(partition) as model:
            return model.report(self.store.now(), incarnation, reports)

    async def progress(self, partition: Partition, task_id: str) -> bytes | None:
        """The stamped report of a task that has not ended."""
        with self.store.queue(partition) as model:
            return model.reports.get(task_id)

    async def status(self, partition: Partition, task_id: str, *, announce: bool = False) -> TaskStatus:
        """The state of a task; with `announce` its end is published to `endings`."""
        with self.store.queue(partition) as model:
            return model.status(self.store.now(), task_id, announce=announce)

    # Views.

    async def queues(self) -> list[str]:
        """The names of all queues that have ever had a task."""
        return sorted({queue_of(name) for name in await self.partitions()})

    async def partitions(self, queue: str | None = None) -> list[Partition]:
        """The names of all partitions, or those of `queue`, which include at least its first."""
        with self.store.lock:
            return sorted(self.store.known) if queue is None else self.store.partitions_of(queue)

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        """The figures of several queues, each the sum of its partitions."""
        return (await self.figures(dict.fromkeys(queues, (horizon_ms, 0)))).stats

    async def figures(self, horizons: Mapping[str, Horizons], *, workers: bool = True) -> Figures:
        """The figures of all these queues, each with its horizons, and all workers, or none."""
        found: dict[str, QueueStats] = {}
        for queue, (horizon_ms, soon_ms) in horizons.items():
            parts = [self.store.stats_of(name, horizon_ms, soon_ms) for name in await self.partitions(queue)]
            found[queue] = QueueStats.total(parts)
        return Figures(found, await self.workers() if workers else [])

    async def workers(self) -> list[WorkerInfo]:
        """The workers whose heartbeat has not expired."""
        with self.store.lock:
            now = self.store.now()
            beats = sorted(self.store.workers.items(), key=lambda entry: (entry[1].at_ms, entry[0]))
            return [
                WorkerInfo.of_values(
                    worker_id.encode(),
                    [beat.fields.get(field, "").encode() or None for field in FIELDS],
                    beat.at_ms,
                    now,
                )
                for worker_id, beat in beats
                if beat.until_ms > now
            ]

    # Operations.

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Requeue dead letters; `None` means all of them."""
        moved = 0
        chunks = [ids[i : i + CHUNK] for i in range(0, len(ids), CHUNK)] if ids is not None else [()]
        stay: list[tuple[str, str]] = []
        for name in await self.partitions(queue):
            passed, to_look_at = 0, None
            for chunk in chunks:
                while True:
                    with self.store.queue(name) as model:
                        if to_look_at is None:
                            to_look_at = len(model.dead)  # a task that dies again in the meantime is behind these
                        count, kept = model.requeue_dead(self.store.now(), chunk, passed, min(CHUNK, to_look_at))
                    moved += count
                    passed += len(kept)
                    to_look_at -= count + len(kept)
                    stay += kept
                    if chunk or to_look_at <= 0 or not (count or kept):
                        break
        warn_of_kept(queue, stay)
        return moved

    async def purge_dead(self, queue: str) -> int:
        dropped = 0
        for name in await self.partitions(queue):
            with self.store.queue(name) as model:
                dropped += model.purge_dead()
        return dropped

    async def purge(self, queue: str) -> int:
        """Delete all waiting tasks; returns their number."""
        dropped = 0
        for name in await self.partitions(queue):
            left = 1
            while left:
                with self.store.queue(name) as model:
                    count, left = model.purge(self.store.now())
                dropped += count
                await self.relay(name)
        return dropped

    async def pause(self, queue: str, *, partitions: int = 1) -> None:
        """Pause all partitions that are known, and the first `partitions`."""
        for name in sorted({*await self.partitions(queue), *first_of(queue, partitions)}):
            with self.store.queue(name) as model:
                self.store.known.add(name)
                model.paused = True

    async def resume(self, queue: str) -> None:
        for name in await self.partitions(queue):
            with self.store.queue(name) as model:
                model.paused = False
                model.calls += 1

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete all data of these queues, results included."""
        for name in await self.partitions():
            if queue_of(name) in queues:
                self.store.forget(name)

    # The fleet.

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        """Tell the worker of that name to stop claiming; it reports `drained` when it is empty."""
        with self.store.lock:
            self.store.cordons[name] = self.store.now() + ttl_seconds * 1000
            self.store.publish("control", f"cordon {name}")

    async def uncordon(self, name: str) -> None:
        with self.store.lock:
            self.store.cordons.pop(name, None)
            self.store.publish("control", f"cordon {name}")

    async def wait_for_work(self, partitions: Sequence[Partition], timeout: float) -> Partition | None:
        """Block until one of these partitions calls for a worker; `None` after `timeout` s."""
        waiter = self.store.wait(partitions)
        heard = False
        try:
            async with asyncio.timeout(timeout):
                await waiter.woken.wait()
            heard = True
            return waiter.called_by
        except TimeoutError:
            heard = True
            return waiter.called_by
        finally:
            self.store.leave(waiter, heard=heard)

    async def occupied(self, partitions: Sequence[Partition]) -> list[Partition]:
        """All of them: here a look at an empty one costs nothing."""
        return list(partitions)

    async def call_another(self, partition: Partition) -> None:
        """Pass a notification on to the next waiting worker."""
        with self.store.queue(partition) as model:
            model.calls += 1

    async def deregister(self, worker_id: str) -> None:
        with self.store.lock:
            self.store.workers.pop(worker_id, None)

    def control(self) -> AsyncIterator[str]:
        """Messages to workers: `cancel ID`, `cordon NAME`; once, at the start, an empty string."""
        return self._listen("control")

    async def endings(self, partition: Partition) -> AsyncIterator[tuple[str, bytes | None]]:
        """The ids of tasks of a partition whose end is awaited; once, at the start, an empty string."""
        async for task_id in self._listen(f"done {partition}"):
            yield task_id, None

    def activity(self) -> AsyncIterator[str]:
        """The names of queues with a partition that is no longer empty; once, at the start, an empty string."""
        return self._listen("activity")

    async def _listen(self, channel: str) -> AsyncIterator[str]:
        with self.store.listening(channel) as inbox:
            yield ""
            while True:
                yield await inbox.get()
