"""The workers that run beside the application, in its own process."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import socket
from collections.abc import Callable, Sequence

from taskfleet import background, showing
from taskfleet.application import Application
from taskfleet.errors import TaskQueueError
from taskfleet.runtime.ports import WorkerSource
from taskfleet.runtime.worker import Worker
from taskfleet.session import Sessions

logger = showing.logger("taskfleet.worker")

_numbers = itertools.count()  # of all loops: names are unique in the fleet


class LocalWorkers:
    """Started, retired and stopped one by one. `on_failure` is told of a worker that has ended with an error."""

    def __init__(self, application: Application, sessions: Sessions) -> None:
        self._source = WorkerSource(application, sessions)
        self._running: dict[Worker, asyncio.Task[None]] = {}
        self.on_failure: Callable[[BaseException], None] | None = None

    def start(self, count: int, queues: Sequence[str] | None) -> None:
        """Run `count` more."""
        for _ in range(count):
            name = f"{socket.gethostname()}-{os.getpid()}-{id(self._source):x}-local-{next(_numbers)}"
            worker = Worker(self._source, queues=queues, name=name)
            task = background.start(worker.run(), context=background.of_the_application())
            self._running[worker] = task
            task.add_done_callback(functools.partial(self._ended, worker))

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        self._running.pop(worker, None)
        error = None if task.cancelled() else task.exception()
        if error is None and worker.health.unhealthy:
            error = TaskQueueError(f"worker {worker.identity.worker_id} has left: {worker.health.unhealthy}")
        if error is not None:
            logger.error("worker %s ended with an error", worker.identity.worker_id, exc_info=error)
            if self.on_failure is not None:
                self.on_failure(error)

    def retire(self, count: int) -> None:
        """Let the `count` least busy end when their running tasks have ended, however long that takes."""
        for worker in sorted(self._active, key=lambda worker: len(worker.slots.running))[:count]:
            worker.retire()

    async def stop(self) -> None:
        """Drain all: running tasks get the grace period, the rest goes back."""
        running = dict(self._running)
        for worker in running:
            worker.drain()
        await asyncio.gather(*running.values())

    @property
    def _active(self) -> list[Worker]:
        """Those that take work."""
        return [worker for worker in self._running if not worker.draining]

    @property
    def active(self) -> int:
        """How many of them take work."""
        return len(self._active)

    @property
    def busy(self) -> int:
        """How many slots of those that take work are in use."""
        return sum(len(worker.slots.running) for worker in self._active)

    @property
    def slots(self) -> int:
        """How many tasks those that take work can run at a time."""
        return sum(worker.slots.total for worker in self._active)

    def __len__(self) -> int:
        return len(self._running)
