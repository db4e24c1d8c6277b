"""One worker process, in the place of a pod."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from taskfleet.child_process import Child

from .embedded_valkey import free_port
from .plan import LocalPlan

_KEPT_LINES = 20
_HURRY_SECONDS = 2.0  # how long it may take to end at once


class LocalWorker:
    """`taskfleet worker` with its output, and what we know of it.

    Times are on the monotonic clock. `cordoned` is when it was asked to empty itself, `ending` that it was told
    to drain; `registered` is when its first heartbeat was seen.
    """

    def __init__(self, name: str, plan: LocalPlan, redis_url: str, folder: Path) -> None:
        self.name = name
        self.born = time.monotonic()
        self.registered: float | None = None
        self.cordoned: float | None = None
        self.ending = False
        self._hurried = 0.0
        self.last_lines: list[str] = []
        self._output = folder / f"{name}.log"
        environment = {
            **os.environ, **plan.environment, "REDIS_URL": redis_url, "TASKFLEET_WORKER_NAME": name,
        }  # fmt: skip
        # To a file, not to a pipe: after our death its last words must not break it.
        with self._output.open("ab") as sink:
            self._child = Child(
                [
                    sys.executable, "-m", "taskfleet", "worker", plan.app,
                    "--queues", ",".join(queue.name for queue in plan.queues),
                    "--concurrency", str(plan.concurrency), "--processes", str(plan.processes),
                    "--probe-host", "127.0.0.1", "--probe-port", str(free_port()),
                ],
                environment=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._reader = self._output.open("rb")

    @property
    def pid(self) -> int:
        return self._child.process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._child.ended()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.born

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self.ending = True
        self._child.drain()

    def kill(self) -> None:
        """End it at once, with its own children. Asked again seconds later, by the kernel."""
        self._child.hurry()
        self._hurried = self._hurried or time.monotonic()
        if self.returncode is None and time.monotonic() - self._hurried > _HURRY_SECONDS:
            self._child.process.kill()

    def lines(self) -> Iterator[str]:
        """The complete lines it has written since the last call."""
        while True:
            place = self._reader.tell()
            raw = self._reader.readline()
            if not raw.endswith(b"\n") and self.returncode is None:
                self._reader.seek(place)
                return
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip()
            self.last_lines = [*self.last_lines[1 - _KEPT_LINES :], line]
            yield line

    def close(self) -> None:
        self._reader.close()
