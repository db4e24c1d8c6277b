"""Stops handlers, and keeps account of handlers that do not stop.

A handler is stopped by a cancellation. A handler that swallows it, or that is inside a C call, is cancelled again. If
it has not ended after `NOTICE_SECONDS`, the end of its task is recorded all the same, but its slot stays taken until
the handler has really ended. A worker with too many such handlers reports itself unhealthy and exits.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from taskfleet import showing
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.job import Interruption, Job
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots
from taskfleet.runtime.state.upcalls import Upcalls

logger = showing.logger("taskfleet.worker")

NOTICE_SECONDS = 5.0  # how long a cancelled handler may take to clean up
_AGAIN_SECONDS = (3.0, 4.0)  # when it is cancelled again; until then it may be cleaning up


@dataclass(frozen=True, slots=True)
class Stuck:
    """A handler that continues after the end of its task: the task, and the loop time (s) of that end."""

    id: str
    name: str
    queue: str
    why: Interruption
    since: float

    def __str__(self) -> str:
        return f"{showing.shown(self.id, 64)} ({showing.shown(self.name, 64)})"


class Stopping:
    """The handlers of one worker that are being stopped. Only its loop calls it; other threads may read the figures."""

    def __init__(
        self,
        slots: Slots,
        health: Health,
        context: RunContext,
        wanted: asyncio.Event,
        upcalls: Upcalls,
        notice: float = NOTICE_SECONDS,
    ) -> None:
        self._slots = slots
        self._health = health
        self._context = context
        self._wanted = wanted
        self._upcalls = upcalls
        self._notice = notice
        self._stuck: dict[asyncio.Task[None], Stuck] = {}
        self._closed = False
        self.total = 0  # all handlers that have been stuck so far

    def __len__(self) -> int:
        return len(self._stuck)

    @property
    def stuck(self) -> list[Stuck]:
        """The running handlers that cannot be stopped."""
        return list(self._stuck.copy().values())

    def close(self) -> list[Stuck]:
        """End with the worker; returns the handlers that it leaves behind."""
        self._closed = True
        return self.stuck

    @property
    def limit(self) -> int:
        """The number of stuck handlers that is too many: more than half of the slots."""
        return self._slots.total // 2 + 1

    def stop(self, job: Job, why: Interruption) -> None:
        """Cancel a handler repeatedly until it ends or its notice is over. Only the first reason counts."""
        task = job.task
        if not job.interrupt(why) or task is None:
            return
        loop = asyncio.get_running_loop()
        context = self._context.variables.copy()  # not the context of the current task
        scale = self._notice / NOTICE_SECONDS
        for seconds in _AGAIN_SECONDS:
            loop.call_later(seconds * scale, _cancel, task, context=context)
        loop.call_later(self._notice, self._give_up, job, task, context=context)

    def time_out(self, job: Job) -> None:
        """Cancel a handler whose task has reached its timeout."""
        self.stop(job, "timeout")

    def _give_up(self, job: Job, task: asyncio.Task[None]) -> None:
        if task.done():
            return
        assert job.interruption is not None
        slots = self._slots
        stuck = Stuck(job.id, job.definition.name, job.partition, job.interruption, self._context.now())
        self._stuck[task] = stuck
        self.total += 1
        slots.usable = slots.total - len(self._stuck)
        # Before the end is recorded, since tasks that start then must see the number of free slots.
        task.add_done_callback(self._handler_ended)
        logger.error(
            "task %s of queue %s cannot be stopped (%s): its handler ignores its cancellation since %.0f s and keeps "
            "its slot; %d of %d slots are lost so",
            stuck, job.partition, job.interruption, self._notice, len(self._stuck), slots.total,
        )  # fmt: skip
        _cancel(task)
        self._upcalls.given_up(job)
        if len(self._stuck) >= self.limit and not self._health.draining:
            self._upcalls.too_many_stuck(
                f"{len(self._stuck)} of {slots.total} slots are held by handlers that cannot be stopped"
            )

    def _handler_ended(self, task: asyncio.Task[None]) -> None:
        stuck = self._stuck.pop(task, None)
        self._slots.usable = self._slots.total - len(self._stuck)
        if stuck is not None and not self._closed:
            late = self._context.now() - stuck.since
            logger.info("the handler of task %s has ended after all, %.0f s late", stuck, late)
        self._wanted.set()


def _cancel(task: asyncio.Task[None]) -> None:
    if not task.done():
        asyncio.Task.cancel(task)  # not the method of the job's task, which looks at its caller
