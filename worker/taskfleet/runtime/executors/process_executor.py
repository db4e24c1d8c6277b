"""The process executor: it runs plain functions in child processes, which a timeout can kill at any point.

A child runs one task at a time and has its own socket, so that killing it cannot harm another task. It is a fresh
interpreter and not a fork: it has no sockets, threads or other state of the worker. No child starts before the first
call. A child that has ended is replaced when a task needs one, and a child that stays idle for a while ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taskfleet import background
from taskfleet.cancellation import end
from taskfleet.runtime.executors.process_answers import Returned

if TYPE_CHECKING:
    from taskfleet.runtime.executors.process_connection import TaskProcess
    from taskfleet.runtime.state.job import Job

_IDLE_SECONDS = 60.0


class Processes:
    """The child processes of one worker: as many as its tasks need at once.

    `most_bytes` is the limit on an answer; a longer one is dropped.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._idle: list[TaskProcess] = []  # the last used child is taken first, so that the others can end
        self._starting: set[asyncio.Task[TaskProcess]] = set()
        self._unclaimed: list[asyncio.Task[TaskProcess]] = []  # starting children whose tasks have ended already
        self._all: set[TaskProcess] = set()

    async def call(self, job: Job, *, keep: bool) -> Returned:
        """Run the job's function; cancelling this coroutine kills its process.

        `keep` tells whether the result is needed. Errors: `ChildError`, `ProcessDiedError`.
        """
        child = await self._take(job.definition.function.__module__)
        try:
            answer = await child.run(job, keep=keep)
        except BaseException:
            await child.kill()
            raise
        finally:
            if child.alive:
                self._rest(child)
            else:
                self._all.discard(child)
        return child.returned(answer)

    async def _take(self, module: str) -> TaskProcess:
        while self._idle:
            child = self._idle.pop()
            child.rest.cancel()
            if child.alive:
                return child
            child.close()
            self._all.discard(child)
        start = self._unclaimed.pop() if self._unclaimed else self._start(module)
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            # A start continues after its task has ended. Otherwise a task with a shorter timeout could never run.
            if start.done():
                self._keep(start)
            else:
                self._unclaimed.append(start)
            raise

    def _start(self, module: str) -> asyncio.Task[TaskProcess]:
        # Imported only here: most workers never run a child.
        from taskfleet.runtime.executors.process_connection import TaskProcess

        # The start does not belong to the task: another task may get the child.
        start = background.start(TaskProcess.start(module, self._most_bytes))
        self._starting.add(start)
        start.add_done_callback(self._started)
        return start

    def _started(self, start: asyncio.Task[TaskProcess]) -> None:
        self._starting.discard(start)
        if not start.cancelled() and start.exception() is None:
            self._all.add(start.result())
        if start in self._unclaimed:
            self._unclaimed.remove(start)
            self._keep(start)

    def _keep(self, start: asyncio.Task[TaskProcess]) -> None:
        if not start.cancelled() and start.exception() is None:
            self._rest(start.result())

    def _rest(self, child: TaskProcess) -> None:
        self._idle.append(child)
        child.rest = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire, child)

    def _retire(self, child: TaskProcess) -> None:
        self._idle.remove(child)
        self._all.discard(child)
        child.close()

    @property
    def pids(self) -> list[int]:
        """The process ids of the present children."""
        return [child.pid for child in self._all if child.alive]

    async def close(self) -> None:
        """End all processes."""
        await end(self._starting)
        children, self._all = self._all, set()
        for child in self._idle:
            child.rest.cancel()
        self._idle = []
        await asyncio.gather(*(child.leave() for child in children))
