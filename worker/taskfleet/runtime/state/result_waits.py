"""Tasks that wait for the results of other tasks, and so keep their slots from them.

When every slot of a worker is held in this way, and no awaited task has started anywhere, the worker waits for work
that it cannot begin. Another worker may still begin it, at any time, so this is a warning and never an error.
"""

from __future__ import annotations

import asyncio
import threading

from taskfleet import showing
from taskfleet.errors import TaskQueueError
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.slots import Slots

logger = showing.logger("taskfleet.worker")

_NOT_STARTED = frozenset({"ready", "blocked"})


class ResultWaits:
    """The waits inside the tasks of one worker. Tasks in threads report theirs from other threads."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._states: dict[Job, dict[str, str]] = {}  # of the awaited tasks, by id
        self._told: set[str] = set()  # the names of tasks
        self._lock = threading.Lock()

    def check(self, waiter: object, task_id: str) -> None:
        """`TaskQueueError` for a task that waits for itself. Code that it has started beside itself may do so."""
        job = getattr(waiter, "__self__", None)
        if not isinstance(job, Job) or job.id != task_id or not self._slots.runs(job):
            return
        if job.task is None or job.task is asyncio.current_task():  # None in its first step, and after its end
            raise TaskQueueError(
                f"task {job.definition.name!r} ({task_id}) waits for its own result, which is there when it has ended"
            )

    def note(self, waiter: object, task_id: str, state: str) -> None:
        """The task whose context `waiter` makes has waited for a while for another task, which is in `state`."""
        job = getattr(waiter, "__self__", None)
        if not isinstance(job, Job):
            return
        with self._lock:
            self._states.setdefault(job, {})[task_id] = state
            self._tell()

    def forget(self, waiter: object, task_id: str) -> None:
        """The wait has ended."""
        job = getattr(waiter, "__self__", None)
        with self._lock:
            if isinstance(job, Job) and (states := self._states.get(job)) is not None:
                states.pop(task_id, None)
                if not states:
                    del self._states[job]

    def _tell(self) -> None:
        running = list(self._slots.running.values())
        if self._slots.free > 0:
            return
        for job in running:
            states = self._states.get(job)
            if not states or not _NOT_STARTED.issuperset(states.values()):
                return
        names = {job.definition.name for job in running}
        if names <= self._told:
            return
        self._told |= names
        job = running[0]
        logger.warning(
            "all %d slots of this worker are held by tasks that wait for the results of tasks which no worker has "
            "started (%s): it cannot run them. %s waits for task %s. Let tasks wait without a slot, with chain(…), "
            "chord(…) or .options(after=[…]), or give the tasks that wait a queue and a worker of their own",
            self._slots.total, ", ".join(sorted(showing.shown(name, 64) for name in names)),
            showing.shown(job.id, 64), showing.shown(next(iter(self._states[job])), 64),
        )  # fmt: skip
