"""The launcher gives a run its slot."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Coroutine
from typing import Any

from taskfleet.runtime.running.deadlines import Deadlines
from taskfleet.runtime.running.stopping import Stopping
from taskfleet.runtime.state.job import Job, JobTask
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.slots import Slots

_EAGER = sys.version_info >= (3, 12)


class Launcher:
    """Starts the asyncio tasks of jobs, alone or as batches."""

    def __init__(self, context: RunContext, slots: Slots, stopping: Stopping, deadlines: Deadlines) -> None:
        self._context = context
        self._running = slots.running
        self._stopping = stopping
        self._deadlines = deadlines

    def launch(self, job: Job, run: Coroutine[Any, Any, None], variables: contextvars.Context) -> None:
        """Give the job a slot and run it in a separate context, since the end of another run may be the caller."""
        running = self._running
        if (older := running.get(job.id)) is not None:
            self._stopping.stop(older, "lost")  # its lease expired, and this worker itself took the task over
        running[job.id] = job
        loop = self._context.loop
        if _EAGER:
            # It runs now, up to the first await that waits. A task without such an await costs no round of the loop and
            # no deadline: no timer could run before its end.
            task = JobTask(run, loop=loop, context=variables, eager_start=True)  # type: ignore[call-arg,unused-ignore]
            if task.done():
                return  # and its job has dropped it already, as in `Endings`
        else:
            task = JobTask(run, loop=loop, context=variables)
        job.task = task
        task.job = job
        if job.timeout is not None:
            self._deadlines.watch(job)
