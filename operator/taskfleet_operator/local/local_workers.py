"""The worker processes of `taskfleet up`: it starts them, restarts them after a crash, and ends them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path

from taskfleet.errors import ConfigurationError

from .local_worker import LocalWorker
from .plan import LocalPlan

_LONGEST_BACKOFF_SECONDS = 30.0
_USAGE_EXIT = 2


class LocalWorkers:
    """As many worker processes as `wanted`. `peak` is the largest number so far.

    `tend` is called several times a second and does all the work. `on_line` gets each line of output with the worker's
    name, `on_event` a sentence about a crash, `on_start` one about what the start waits for.
    """

    def __init__(self, plan: LocalPlan, redis_url: str, folder: Path) -> None:
        self.all: dict[str, LocalWorker] = {}
        self.wanted = 0
        self.peak = 0
        self.on_line: Callable[[str, str], None] = lambda _name, _line: None
        self.on_event: Callable[[str], None] = lambda _text: None
        self.on_start: Callable[[str], None] = lambda _text: None
        self._one_is_ready = False
        self._plan = plan
        self._redis_url = redis_url
        self._folder = folder
        self._tag = secrets.token_hex(3)  # another fleet of this name on the same Redis has other worker names
        self._serial = 0
        self._crashes = 0
        self._retry_at = 0.0  # monotonic

    def counted(self) -> dict[str, LocalWorker]:
        """The workers that run and were not asked to end, by name, the oldest first."""
        return {name: worker for name, worker in self.all.items() if not worker.ending and worker.returncode is None}

    def tend(self) -> None:
        """Pass output on, take note of processes that have ended, and start those that are missing."""
        self.reap()
        self._fill()
        for worker in self.counted().values():
            if not worker.registered and worker.age_seconds > worker.next_told_seconds:
                words = worker.last_lines[-1] if worker.last_lines else f"it imports {self._plan.app}"
                self.on_start(f"{worker.name} has not registered after {worker.next_told_seconds:.0f} s: {words}")
                worker.next_told_seconds *= 2

    def resize(self, wanted: int, removed: Collection[str]) -> None:
        """Set the number. The `removed` workers are asked to drain and end, and the newest after them if needed."""
        self.wanted = wanted
        self.peak = max(self.peak, wanted)
        for name in removed:
            if worker := self.all.get(name):  # it may have ended in the meantime
                worker.terminate()
        for worker in list(self.counted().values())[wanted:]:
            worker.terminate()
        self._fill()

    def note_registered(self, names: Collection[str]) -> None:
        """These workers have registered with all their processes: the application starts."""
        for name in names:
            worker = self.all.get(name)
            if worker is not None and not worker.registered:
                worker.registered = True
                self._crashes = 0
                if not self._one_is_ready:
                    self._one_is_ready = True
                    self.on_start(f"{name} is ready after {worker.age_seconds:.1f} s")

    def terminate(self) -> None:
        """Ask every worker to finish what it runs and to end."""
        self.wanted = 0
        for worker in self.all.values():
            worker.terminate()

    def kill(self) -> None:
        """End every worker at once."""
        for worker in self.all.values():
            worker.kill()

    def reap(self) -> bool:
        """Take note of processes that have ended. Returns whether any is left.

        Raises ConfigurationError when a worker reports that it cannot start.
        """
        for worker in list(self.all.values()):
            ended = worker.returncode is not None  # asked before its last lines are read
            for line in worker.lines():
                self.on_line(worker.name, line)
            if ended:
                del self.all[worker.name]
                worker.close()
                if not worker.ending:
                    self._crashed(worker)
        return bool(self.all)

    def _fill(self) -> None:
        while len(self.counted()) < self.wanted and time.monotonic() >= self._retry_at:
            self._serial += 1
            name = f"{self._plan.name}-worker-{self._tag}-{self._serial}"
            self.all[name] = LocalWorker(name, self._plan, self._redis_url, self._folder)
            if not self._one_is_ready:
                self.on_start(f"{name} starts: it imports {self._plan.app}")

    def _crashed(self, worker: LocalWorker) -> None:
        words = worker.last_lines[-1] if worker.last_lines else "it said nothing"
        if not worker.registered and worker.returncode == _USAGE_EXIT:
            raise ConfigurationError(f"the workers cannot start: {words.removeprefix('taskfleet: ')}")
        self._crashes += 1
        delay = min(_LONGEST_BACKOFF_SECONDS, 0.5 * 2.0**self._crashes)
        self._retry_at = time.monotonic() + delay
        self.on_event(f"{worker.name} ended with {worker.returncode}; another starts in {delay:.0f} s: {words}")
