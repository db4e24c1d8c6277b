"""Local workers, which run beside the application in its own process."""

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
from taskfleet.runtime.state.ports import WorkerSource
from taskfleet.runtime.worker import Worker
from taskfleet.session import Sessions

logger = showing.logger("taskfleet.worker")

_numbers = itertools.count()  # across all loops, since names are unique in the fleet


class EmbeddedWorkers:
    """Starts, retires and stops workers. `on_failure` is called for a worker that has ended with an error."""

    def __init__(self, application: Application, sessions: Sessions) -> None:
        self._source = WorkerSource(application, sessions)
        self._running: dict[Worker, asyncio.Task[None]] = {}
        self.on_failure: Callable[[BaseException], None] | None = None

    def start(self, count: int, queues: Sequence[str] | None) -> None:
        """Run `count` more workers."""
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
        """Let the `count` least busy workers end when their running tasks have ended, without a time limit."""
        for worker in sorted(self._active, key=lambda worker: len(worker.slots.running))[:count]:
            worker.retire()

    async def stop(self) -> None:
        """Drain all workers: running tasks get the grace period, the others are returned to their queues."""
        running = dict(self._running)
        for worker in running:
            worker.drain()
        await asyncio.gather(*running.values())

    @property
    def _active(self) -> list[Worker]:
        """The workers that claim tasks."""
        return [worker for worker in self._running if not worker.draining]

    @property
    def active(self) -> int:
        """The number of workers that claim tasks."""
        return len(self._active)

    @property
    def busy(self) -> int:
        """The number of slots in use, of the workers that claim tasks."""
        return sum(len(worker.slots.running) for worker in self._active)

    @property
    def slots(self) -> int:
        """The number of slots of the workers that claim tasks."""
        return sum(worker.slots.total for worker in self._active)

    def __len__(self) -> int:
        return len(self._running)
