"""One run of a task, from its first step to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from taskfleet import context
from taskfleet.application import Application
from taskfleet.runtime.recording.endings import Endings
from taskfleet.runtime.running.calls import Calls
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.job import Job

_MOST_COUNTED = 10_000  # tasks whose outside cancellations are counted
_CANCELLED_OUTSIDE = 3  # runs of one task that may be cancelled from outside before that counts as a failure


class OutsideCancellations:
    """Distinguishes a run that was cancelled from outside from one that has failed."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._counts: Counter[str] = Counter()  # by task id

    def note(self, job: Job, error: BaseException) -> None:
        """Return a run to its queue that was cancelled by the end of its loop, or by code outside of the task.

        Such a run has not failed. The number of times is limited, since the task itself may cause the cancellation in a
        way that cannot be detected.
        """
        if not job.cancelled_outside or job.interruption is not None:
            return
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) or (task is not None and task.cancelling()):
            if len(self._counts) > _MOST_COUNTED:
                self._counts.clear()
            self._counts[job.id] += 1
            if self._health.draining or self._counts[job.id] <= _CANCELLED_OUTSIDE:
                job.interruption = "shutdown"


class Runner:
    """Runs single tasks, each in its slot."""

    def __init__(
        self, application: Application, calls: Calls, endings: Endings, cancellations: OutsideCancellations
    ) -> None:
        self._hooks = application.middleware
        self._calls = calls
        self._endings = endings
        self._cancellations = cancellations

    async def run(self, job: Job, args: list[Any], kwargs: dict[str, Any]) -> None:
        """The body of the job's asyncio task."""
        definition = job.definition
        context.CURRENT.set(job.context)
        try:
            if job.interruption is not None:
                raise asyncio.CancelledError  # interrupted before its first step
            if definition.plan is not None or (self._hooks.execute and not self._hooks.runs_plain(job.headers)):
                value = await self._calls.through_hooks(job, args, kwargs)
            elif definition.options.executor == "async":
                value = await definition.function(*args, **kwargs)
            elif definition.options.executor == "process":
                value = await self._calls.in_process(job)
            else:
                value = await self._calls.in_thread(definition.function, args, kwargs)
            if job.interruption is not None:
                # The handler swallowed its cancellation; its result came too late to count.
                raise asyncio.CancelledError
        except BaseException as error:
            # BaseException: a task that calls sys.exit() must not end the worker.
            self._cancellations.note(job, error)
            self._endings.raised(job, error, "")
            return
        self._endings.succeed(job, value)
