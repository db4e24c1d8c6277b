"""The store that the brokers of one process share: queues, fleet, clock, and the waiting clients."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet import checks, ids
from taskfleet.memory.model import QueueModel
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.stats import QueueStats

_REMEMBERED = 10_000  # enqueued tasks


def _wall_clock() -> float:
    return time.time() * 1000


@dataclass(eq=False, slots=True)
class Waiter:
    """A worker that waits for a notification from one of its partitions."""

    loop: asyncio.AbstractEventLoop
    partitions: tuple[Partition, ...]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    called_by: Partition | None = None


@dataclass(slots=True)
class Beat:
    """A worker's last heartbeat."""

    at_ms: float
    until_ms: float
    fields: dict[str, str]


@dataclass(slots=True)
class Scheduled:
    """A stored schedule (scheduling/record.py); `tick_ms` is `None` when it is paused or over."""

    spec: bytes
    tick_ms: int | None
    state: bytes


class Accepted(NamedTuple):
    """A task as it was enqueued; `due_ms` is 0 when it was ready at once."""

    partition: Partition
    task_id: str
    envelope: bytes
    due_ms: float
    at_ms: int


class StoreClock:
    """The clock that all queues of a store use."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._told: list[Callable[[float], None]] = []

    def now_ms(self, partition: Partition, *, within: float = math.inf) -> float:
        """Milliseconds by the store's clock."""
        return self._now()

    async def ask(self, partition: Partition) -> None:
        """The time is always known."""

    def when_moved(self, call: Callable[[float], None]) -> Callable[[], None]:
        """`call(seconds)` each time the clock is moved. Returns a function that ends it."""
        self._told.append(call)
        return lambda: self._told.remove(call)

    def tell(self, seconds: float) -> None:
        """The clock has been moved."""
        for call in list(self._told):
            call(seconds)


class MemoryStore:
    """All state under one lock: workers' lease threads and other event loops use it too."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.lock = threading.RLock()
        self._clock = clock or _wall_clock
        self._travelled_ms = 0.0
        self.clock = StoreClock(self.now)
        self.crashed: set[str] = set()  # incarnations of workers that renew no lease any more
        self.known: set[Partition] = set()  # partitions that have ever had a task
        self.workers: dict[str, Beat] = {}
        self.introduced: dict[str, str] = {}  # prefix of ids, or incarnation → who it is
        self.cordons: dict[str, float] = {}  # worker's name → end of its cordon, ms
        self.accepted: deque[Accepted] = deque(maxlen=_REMEMBERED)
        self._schedules: dict[Partition, dict[str, Scheduled]] = defaultdict(dict)
        self._models: dict[Partition, QueueModel] = {}
        self._waiters: list[Waiter] = []
        self._listeners: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str]]]] = defaultdict(list)
        self._watchers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def introduce(self) -> None:
        """Write who this process is under the prefix of its ids."""
        self.introduced[ids.prefix()] = ids.who()

    # The clock.

    def now(self) -> int:
        """Milliseconds by the store's clock."""
        return int(self._clock() + self._travelled_ms)

    def advance(self, seconds: float, *, running_too: bool = True) -> None:
        """Move the time forward.

        Leases move with it, as if their workers had renewed them, except those of crashed workers. The time of running
        tasks moves too, up to their timeouts, unless `running_too` is false. Idle workers check again.
        """
        seconds = checks.seconds("seconds", seconds)
        with self.lock:
            self._travelled_ms += seconds * 1000
            if running_too:
                self.clock.tell(seconds)
            for model in self._models.values():
                for task_id, end in model.leases.items():
                    if model.owners[task_id][0] not in self.crashed:
                        model.leases.add(task_id, end + seconds * 1000)
            for beat in self.workers.values():
                beat.at_ms += seconds * 1000
                beat.until_ms += seconds * 1000
            for name in list(self._models):
                with self.queue(name) as model:
                    model.call_a_worker()
            self.publish("schedules", "")

    # Queues.

    @property
    def models(self) -> dict[Partition, QueueModel]:
        return dict(self._models)

    @contextlib.contextmanager
    def queue(self, partition: Partition) -> Generator[QueueModel]:
        """One partition for one operation; afterwards its messages are published."""
        with self.lock:
            model = self._models.get(partition)
            if model is None:
                model = self._models[partition] = QueueModel(partition)
            try:
                yield model
            finally:
                said, model.said = model.said, []
                for channel, message in said:
                    self.publish(f"{channel} {partition}" if channel == "done" else channel, message)
                self._hand_out_calls(model)
                self._tell_watchers()

    def partitions_of(self, queue: str) -> list[Partition]:
        return sorted({name for name in self.known if queue_of(name) == queue} | {Partition(queue)})

    def schedules_of(self, partition: Partition) -> dict[str, Scheduled]:
        """The schedules of a partition by name."""
        return self._schedules[partition]

    def ticks(self) -> list[int]:
        """The next tick of every schedule, in ms."""
        there = [one.tick_ms for some in list(self._schedules.values()) for one in list(some.values())]
        return [tick_ms for tick_ms in there if tick_ms is not None]

    def stats_of(self, partition: Partition, horizon_ms: int, soon_ms: int) -> QueueStats:
        """The figures of one partition."""
        ticks = [one.tick_ms for one in self._schedules[partition].values() if one.tick_ms is not None]
        with self.queue(partition) as model:
            return model.stats(self.now(), horizon_ms, soon_ms, ticks)

    def forget(self, partition: Partition) -> None:
        with self.lock:
            self._schedules.pop(partition, None)
            self._models.pop(partition, None)
            self.known.discard(partition)

    # Waiting workers.

    def wait(self, partitions: Sequence[Partition]) -> Waiter:
        """Take a notification if there is one; otherwise wait in line until `leave`."""
        waiter = Waiter(asyncio.get_running_loop(), tuple(partitions))
        with self.lock:
            for name in partitions:
                model = self._models.get(name)
                if model is not None and model.calls:
                    model.calls -= 1
                    waiter.called_by = name
                    waiter.woken.set()
                    return waiter
            self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter, *, heard: bool) -> None:
        """Leave the line. A notification that was not received goes to another worker."""
        with self.lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.called_by is not None and not heard:
                with self.queue(waiter.called_by) as model:
                    model.calls += 1

    def _hand_out_calls(self, model: QueueModel) -> None:
        for waiter in list(self._waiters):
            if not model.calls:
                return
            if model.name in waiter.partitions:
                self._waiters.remove(waiter)
                waiter.called_by = model.name
                if _call(waiter.loop, waiter.woken.set):
                    model.calls -= 1

    # Publishing.

    def publish(self, channel: str, message: str) -> None:
        for loop, inbox in list(self._listeners[channel]):
            if not _call(loop, inbox.put_nowait, message):
                self._listeners[channel].remove((loop, inbox))

    @contextlib.contextmanager
    def listening(self, channel: str) -> Generator[asyncio.Queue[str]]:
        entry = (asyncio.get_running_loop(), asyncio.Queue[str]())
        with self.lock:
            self._listeners[channel].append(entry)
        try:
            yield entry[1]
        finally:
            with self.lock:
                if entry in self._listeners[channel]:
                    self._listeners[channel].remove(entry)

    @contextlib.contextmanager
    def watching(self) -> Generator[asyncio.Event]:
        """An event that is set after every operation on any queue."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self.lock:
            self._watchers.append(entry)
        try:
            yield entry[1]
        finally:
            with self.lock:
                self._watchers.remove(entry)

    def _tell_watchers(self) -> None:
        for loop, event in list(self._watchers):
            _call(loop, event.set)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: object) -> bool:
    """Call on a loop, from any thread; false when the loop is closed."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        return False
    return True
