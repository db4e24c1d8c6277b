"""The scheduler: the loop that performs the ticks of schedules.

Any number of schedulers may run. Each tick happens once, without a leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from redis import exceptions as redis_exceptions

from taskfleet import background, ids, showing
from taskfleet.application import Application
from taskfleet.backoff import backoff_seconds
from taskfleet.cancellation import end
from taskfleet.errors import TaskQueueError
from taskfleet.protocol import envelope
from taskfleet.protocol.due import Due, TickPosition
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis.redis_errors import connection_error, is_transient
from taskfleet.supervising import supervise

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker
    from taskfleet.protocol.schedules import Entry, Tick, TickReply

logger = showing.logger("taskfleet.scheduler")

_SHORTEST_SLEEP = 0.001  # the clock of Redis is read in milliseconds
_REPLACEMENTS = 5  # tries in one pass to replace a waiting task that other schedulers replace too
_MOST_REMEMBERED = 10_000  # schedules that the log has reported as unreadable
_PASSED_OVER_SECONDS = 60.0  # until due schedules that are unreadable here are examined again
_FULL_QUEUE_SECONDS = 1.0  # until a full queue that has refused a tick is tried again


class Scheduler:
    """Sleeps until the next known tick, and performs it.

    All times are by the clock of Redis: the local clock is used only to measure how long to sleep. During failures of
    Redis the scheduler waits. Ticks that were missed in that time fire once, if the starting deadline allows.
    """

    def __init__(self, application: Application, broker: Broker) -> None:
        self._application = application
        self._settings = application.settings.scheduler
        # Separate connections: a busy worker's pool would make ticks late, and the subscription would take a connection
        # of it.
        self._broker = broker
        self._store = broker.schedules
        self._changed = asyncio.Event()
        self._stopping = False
        self._failures = 0
        self._turn = 0
        self._unreadable: set[tuple[str, str, int]] = set()
        # By queue: the position up to which no due schedule can be read here. These schedules stay due for another
        # scheduler, and must not hide the schedules after them.
        self._past: dict[Partition, TickPosition] = {}
        self._past_until = 0.0

    async def run(self) -> None:
        """Perform the ticks of schedules until `stop()`."""
        listening = supervise("listening for new schedules", self._listen)
        listener = background.start(listening, context=background.of_the_application())
        logger.info("scheduler: started")
        try:
            while not self._stopping:
                self._changed.clear()
                seconds = await self._patient_pass()
                if not self._stopping:
                    # Not asyncio.wait_for: before Python 3.12 it makes a task, which other code could cancel.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await self._changed.wait()
        finally:
            await end([listener])
            await self._broker.close()
            logger.info("scheduler: ended")

    def stop(self) -> None:
        """End after the current pass."""
        self._stopping = True
        self._changed.set()

    async def _listen(self) -> None:
        # It also yields when the subscription is renewed, since schedules may have been added in between.
        async for _ in self._store.changes():
            self._past.clear()
            self._changed.set()

    async def _patient_pass(self) -> float:
        """One pass; returns the seconds to sleep. Failures are logged, and consecutive ones make the sleep longer."""
        try:
            seconds = await self.one_pass()
        except (redis_exceptions.RedisError, OSError, TaskQueueError) as error:
            if self._failures % 20 == 0:
                logger.warning("no schedule ticks: %s (trying again)", connection_error(self._broker.url, error))
            with contextlib.suppress(redis_exceptions.RedisError, OSError):
                await self._store.failed(error)
        except Exception:
            # If the scheduler ended, it would go unnoticed until a task is missed.
            logger.exception("no schedule ticks: trying again")
        else:
            if self._failures:
                logger.info("schedules tick again")
            self._failures = 0
            return seconds
        self._failures += 1
        return backoff_seconds(self._failures)

    async def one_pass(self) -> float:
        """One pass over the due schedules; returns the seconds until the next pass.

        It adds at most `max_tasks_per_tick` tasks. Errors of Redis are raised as they are.
        """
        queues = await self._store.partitions()
        # Another queue comes first in each pass, so that a queue with too many ticks does not starve the others.
        self._turn = (self._turn + 1) % max(1, len(queues))
        queues = queues[self._turn :] + queues[: self._turn]
        wait = self._settings.tick_interval
        budget = self._settings.max_tasks_per_tick
        if time.monotonic() >= self._past_until:
            self._past.clear()
            self._past_until = time.monotonic() + _PASSED_OVER_SECONDS
        looks = await self._look(queues, budget)
        looked = time.monotonic()
        for due in looks:
            with self._alone(due.partition):
                seconds, fired = await self._tick(due, budget)
                budget -= fired
                wait = min(wait, seconds)
        return max(_SHORTEST_SLEEP, wait - (time.monotonic() - looked))

    async def _look(self, queues: Sequence[Partition], limit: int) -> list[Due]:
        try:
            return await self._store.due(queues, limit=limit, past=self._past)
        except redis_exceptions.ResponseError as error:
            if is_transient(error):
                raise
        # The key of one queue's schedules holds another type: the schedules of the other queues continue.
        found: list[Due] = []
        for queue in queues:
            with self._alone(queue):
                found += await self._store.due([queue], limit=limit, past=self._past)
        return found

    @contextlib.contextmanager
    def _alone(self, partition: Partition) -> Generator[None]:
        """Log an error of one queue's schedules. An error of Redis as a whole is raised."""
        try:
            yield
        except Exception as error:
            if isinstance(error, (redis_exceptions.RedisError, OSError)) and (
                not isinstance(error, redis_exceptions.ResponseError) or is_transient(error)
            ):
                raise
            if self._warn_once(partition, "", b""):
                told = error if isinstance(error, (redis_exceptions.RedisError, TaskQueueError)) else None
                logger.warning(
                    "the schedules of queue %r do not tick: %s", partition, error, exc_info=None if told else error
                )

    def _warn_once(self, queue: str, name: str, spec: bytes) -> bool:
        if len(self._unreadable) >= _MOST_REMEMBERED:
            self._unreadable.clear()
        key = (queue, name, hash(spec))
        known = key in self._unreadable
        self._unreadable.add(key)
        return not known

    async def _tick(self, due: Due, budget: int) -> tuple[float, int]:
        """Perform the ticks of one queue: (seconds from `due.now_ms` until its next tick, number of added tasks)."""
        ticks = [tick for entry in due.entries if (tick := self._judged(entry, due.now_ms)) is not None]
        later = [due.later_ms] if due.later_ms is not None else []
        later += [tick.next_ms for tick in ticks[:budget] if tick.next_ms is not None]
        wait = (min(later) - due.now_ms) / 1000 if later else self._settings.tick_interval
        replies = [reply.result for reply in await self._perform(ticks[:budget])]
        for tick, reply in zip(ticks, replies, strict=False):
            _log(tick, reply)
        if "full" in replies:
            wait = min(wait, _FULL_QUEUE_SECONDS)
        elif len(ticks) > budget or due.more:
            wait = 0.0
            if not ticks:
                self._past[due.partition] = due.reached
        return wait, replies.count("fired")

    async def _perform(self, ticks: Sequence[Tick]) -> list[TickReply]:
        replies = await self._store.tick(ticks)
        for n, reply in enumerate(replies):
            for _ in range(_REPLACEMENTS):
                if not reply.named:
                    break
                (reply,) = await self._store.tick([replace(ticks[n], replaces=reply.named)])
            replies[n] = reply
            if reply.signals:
                await self._broker.relay(ticks[n].entry.partition)
        return replies

    def _judged(self, entry: Entry, now_ms: int) -> Tick | None:
        """The tick of a due schedule; `None` for a schedule that this version cannot read."""
        # Imported only here: most fleets have no schedule.
        from taskfleet.protocol.schedules import ScheduleState, SpecHead, Tick
        from taskfleet.scheduling.record import ScheduleSpec
        from taskfleet.scheduling.timing import judge

        assert entry.tick_ms is not None
        try:
            spec, state = ScheduleSpec.unpack(entry.spec), ScheduleState.unpack(entry.state)
            call = self._application.seal.open("schedule", queue_of(entry.partition), entry.name, spec.envelope)
            revision = SpecHead.of_packed(entry.spec).revision
            verdict = judge(spec.timing, entry.tick_ms, now_ms, spec.deadline_ms)
            call = envelope.expiring(call, now_ms, spec.expires_ms, self._application.seal.limit)
        except Exception as error:
            # It stays due for another scheduler, which may know its version or its time zone.
            if self._warn_once(entry.partition, entry.name, entry.spec):
                logger.warning("schedule %r of queue %r does not tick here: %s", entry.name, entry.partition, error)
            return None
        task_id = ids.new_id()
        return Tick(
            entry=entry,
            revision=revision,
            fire_ms=verdict.fire_ms,
            next_ms=verdict.next_ms,
            dropped=verdict.dropped,
            task_id=task_id,
            envelope=self._application.seal.close("task", queue_of(entry.partition), task_id, call),
            delay_ms=spec.delay_ms + random.randint(0, spec.jitter_ms),
            extras=spec.extras,
            replaces=state.task_id if spec.policy == "Replace" else "",
            max_length=self._application.known_options_of(entry.partition).max_length,
        )


def _log(tick: Tick, reply: str) -> None:
    name, queue = tick.entry.name, queue_of(tick.entry.partition)
    if tick.dropped and reply in ("fired", "skipped", "dropped"):
        logger.warning("schedule %r of queue %r: ticks were later than the starting deadline and dropped", name, queue)
    if reply == "skipped":
        logger.info("schedule %r of queue %r: tick skipped, its last task is not finished", name, queue)
    elif reply == "full":
        logger.warning("schedule %r: queue %r is full; the tick waits for room", name, queue)
    elif reply == "fired":
        logger.debug("schedule %r of queue %r: task %s", name, queue, tick.task_id)


class RunningScheduler:
    """A scheduler in a task of the running loop, which is restarted when it fails."""

    def __init__(self, application: Application, new_broker: Callable[[], Broker]) -> None:
        self._application = application
        self._new_broker = new_broker
        self._scheduler: Scheduler | None = None
        work = supervise("the scheduler", self._run)
        self._task = background.start(work, context=background.of_the_application())

    async def _run(self) -> None:
        self._scheduler = Scheduler(self._application, self._new_broker())
        await self._scheduler.run()

    async def stop(self) -> None:
        """End after the current pass, or after 1 s if Redis does not answer."""
        if self._task.done():  # its loop is closed
            return
        if self._scheduler is not None:
            self._scheduler.stop()
        await asyncio.wait([self._task], timeout=1.0)
        await end([self._task])
