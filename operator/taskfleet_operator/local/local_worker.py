"""One worker process in place of a pod."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from taskfleet.child_process import Child

from .plan import LocalPlan

_KEPT_LINES = 20
_HURRY_SECONDS = 2.0  # then the kernel ends a process that was told to end at once


class LocalWorker:
    """A `taskfleet worker` process with its output.

    `ending`: it was asked to drain and end. `registered`: heartbeats of all its processes were seen.
    """

    def __init__(self, name: str, plan: LocalPlan, redis_url: str, folder: Path) -> None:
        self.name = name
        self._started = time.monotonic()
        self.registered = False
        self.next_told_seconds = 5.0  # the age at which one that has not registered is told about
        self.ending = False
        self._hurried = 0.0
        self.last_lines: list[str] = []
        self._output = folder / f"{name}.log"
        environment = {
            **os.environ, **plan.environment, "REDIS_URL": redis_url, "TASKFLEET_WORKER_NAME": name,
        }  # fmt: skip
        # Its output goes to a file: a pipe would break when this process is killed before the worker.
        with self._output.open("ab") as sink:
            self._child = Child(
                [
                    sys.executable, "-m", "taskfleet", "worker", plan.app,
                    "--queues", ",".join(queue.name for queue in plan.order.queues),
                    "--concurrency", str(plan.order.concurrency), "--processes", str(plan.order.processes),
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
        return time.monotonic() - self._started

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self.ending = True
        self._child.drain()

    def kill(self) -> None:
        """Tell it to end at once, with its own children. When it is still there 2 s later, the kernel ends it."""
        self._child.hurry()
        self._hurried = self._hurried or time.monotonic()
        if self.returncode is None and time.monotonic() - self._hurried > _HURRY_SECONDS:
            self._child.process.kill()

    def lines(self) -> Iterator[str]:
        """The complete lines it has written since the last call."""
        while True:
            position = self._reader.tell()
            raw = self._reader.readline()
            if not raw.endswith(b"\n") and self.returncode is None:
                self._reader.seek(position)
                return
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip()
            self.last_lines = [*self.last_lines[1 - _KEPT_LINES :], line]
            yield line

    def close(self) -> None:
        self._reader.close()
