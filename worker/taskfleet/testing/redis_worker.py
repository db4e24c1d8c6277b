"""The worker of a test whose queues are in a real Redis: `pytest --taskfleet-redis`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from taskfleet.brokers import broker_at
from taskfleet.errors import ConfigurationError
from taskfleet.memory.enqueued import EnqueuedTask, enqueued_tasks
from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.settings import RedisSettings
from taskfleet.testing.inline import InlineWorker
from taskfleet.testing.matching import name_of
from taskfleet.testing.outlook import Delays
from taskfleet.testing.recording_broker import RecordingBroker

if TYPE_CHECKING:
    from taskfleet.memory.broker import InMemoryBroker
    from taskfleet.queue import TaskQueue

R = TypeVar("R")

_LOOK_SECONDS = 0.01
_QUIET_LOOKS = 5  # signals between queues are on their way for a moment in which nothing is ready
_SOON_SECONDS = 2.0  # a delay that is waited for
_FEW = 1000  # keys that one call deletes


def _refuse(problem: str) -> NoReturn:
    raise ConfigurationError(problem)


@contextlib.contextmanager
def in_redis(queue: TaskQueue, url: str, *, unable: Callable[[str], NoReturn] = _refuse) -> Generator[InlineWorker]:
    """Keep the tasks of `queue` in the Redis at `url` inside the `with` block, under a key prefix of its own.

    All keys of that prefix are deleted at the end. `unable` is called with a sentence when the test needs what only the
    memory can do; by default it raises `ConfigurationError`. Errors: `BrokerConnectionError`.
    """
    application = queue.application
    prefix = f"taskfleet-test-{secrets.token_hex(6)}"
    limit = max(application.max_payload_bytes, application.max_result_bytes)
    plain = broker_at(url, RedisSettings(url=url, key_prefix=prefix), stored_limit_bytes=limit)
    broker = RecordingBroker(cast("Any", plain).client, prefix, application.seal)
    _elsewhere(broker, lambda there: there.ping())
    try:
        with queue.sessions.on(broker):
            yield RedisWorker(queue, broker, unable)
    finally:
        _elsewhere(broker, _delete_keys)


class RedisWorker(InlineWorker):
    """An `InlineWorker` for queues in Redis. Time passes as it does: what moves the clock is not possible."""

    def __init__(self, queue: TaskQueue, broker: RecordingBroker, unable: Callable[[str], NoReturn]) -> None:
        self.queue = queue
        self._pattern = broker
        self._cannot = unable
        self._raised = {}
        self._left_at_cancellation = ""

    def _unable(self, what: str) -> NoReturn:
        self._cannot(f"{what}: the clock of a real Redis cannot be moved; this test needs queues in memory")

    @property
    def broker(self) -> InMemoryBroker:
        self._unable("worker.broker")

    @property
    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def advance(self, seconds: float | dt.timedelta) -> None:
        """Not possible in Redis."""
        self._unable(f"worker.advance({seconds})")

    def crash(self, tasks: int = 1) -> int:
        """Not possible in Redis."""
        self._unable("worker.crash()")

    def enqueued(self, task: Any = None) -> list[EnqueuedTask]:
        """The tasks that this process has enqueued. Those of schedules are not among them."""
        return enqueued_tasks(self._pattern.accepted, self.queue.application.seal, name_of(task))

    def waiting(self) -> list[str]:
        """The tasks of this process that have not ended, as lines."""
        tasks = self.enqueued()

        async def states(broker: RecordingBroker) -> list[str]:
            places = {one.task_id: one.partition for one in broker.accepted}
            return [(await broker.status(places[task.id], task.id)).state for task in tasks]

        found = zip(tasks, _elsewhere(self._pattern, states), strict=True)
        unfinished = Counter(
            f"{task.name} in {task.queue} ({state})"
            for task, state in found
            if state not in ("ended", "dead", "unknown")
        )
        return [f"{count} {kind}" for kind, count in unfinished.most_common()]

    async def _run(self, delays: Delays, until: float | None, raise_errors: bool, timeout: float) -> int:
        if until is not None:
            self._unable("worker.run_for() and run_until()")
        known = {letter.id for letter in self._letters()}
        ended = await self._finished()
        try:
            async with asyncio.timeout(timeout):
                await self._drive(delays)
        except TimeoutError:
            raise TimeoutError(f"after {timeout:g} s there is still work for {self._left()}") from None
        if raise_errors:
            for letter in self._letters():
                if letter.id not in known:
                    raise self._error_of(letter)
        return await self._finished() - ended

    async def _drive(self, delays: Delays, until: float | None = None) -> None:
        from taskfleet.scheduling.scheduler import Scheduler

        await Scheduler(self.queue.application, self.queue.broker).one_pass()
        while await self._has_work(delays):
            queues = await self._queues()
            async with self._serving(queues) as worker:
                quiet = 0
                while quiet < _QUIET_LOOKS and await self._queues() == queues:
                    await asyncio.sleep(_LOOK_SECONDS)
                    works = worker.slots.running or worker.outbox or await self._has_work(delays)
                    quiet = 0 if works else quiet + 1
        if delays == "all":
            stats = await self.queue.broker.stats_many(await self._queues())
            if late := sum(one.delayed for one in stats.values() if not one.paused):
                self._unable(f"through_delays=True with {late} delayed tasks")

    async def _has_work(self, delays: Delays) -> bool:
        """Whether a task runs or is ready, or will be in a moment that is waited for."""
        horizon_ms = int(_SOON_SECONDS * 1000) if delays == "all" else 0
        stats = await self.queue.broker.stats_many(await self._queues(), horizon_ms=horizon_ms)
        return any(one.in_flight or (not one.paused and one.ready + one.due) for one in stats.values())

    async def _queues(self) -> list[str]:
        named = {options.name for options in self.queue.application.queue_options}
        return sorted({*named, *await self.queue.broker.queues()})

    async def _finished(self) -> int:
        return sum(one.finished_total for one in (await self.queue.get_metrics()).values())

    def _letters(self) -> list[DeadLetter]:
        async def read(broker: RecordingBroker) -> list[DeadLetter]:
            seal = self.queue.application.seal
            return [
                DeadLetter.of_packed(task_id, packed, queue=name, seal=seal)
                for name in await broker.queues()
                async for task_id, packed in broker.dead_letters(name, limit=1000)
            ]

        return sorted(_elsewhere(self._pattern, read), key=lambda letter: letter.died_at)


async def _delete_keys(broker: RecordingBroker) -> None:
    keys = [key async for key in broker.client.scan(f"{broker.prefix}:*")]
    for key in keys:
        await (await broker.client.redis_of(key.decode())).delete(key)


def _elsewhere(broker: RecordingBroker, call: Callable[[RecordingBroker], Awaitable[R]]) -> R:
    """The result of a call on a loop of its own, in a thread, since a loop may be running in this one."""
    outcome: list[Any] = [None, None]

    async def main() -> None:
        there = broker.another()
        try:
            outcome[0] = await call(there)
        finally:
            await there.close()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            outcome[1] = error

    thread = threading.Thread(target=run, name="taskfleet-test")
    thread.start()
    thread.join()
    if outcome[1] is not None:
        raise outcome[1]
    return cast("R", outcome[0])
