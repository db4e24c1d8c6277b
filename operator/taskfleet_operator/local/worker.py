"""One worker process, in the place of a pod."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import kin
from .plan import Plan
from .valkey import free_port

_KEPT_LINES = 20


class LocalWorker:
    """`taskfleet worker` with its output, and what we know of it.

    Times are on the monotonic clock. `cordoned` is when it was asked to empty itself, `ending` that it was sent
    SIGTERM; `registered` is when its first heartbeat was seen.
    """

    def __init__(self, name: str, plan: Plan, redis_url: str, folder: Path) -> None:
        self.name = name
        self.born = time.monotonic()
        self.registered: float | None = None
        self.cordoned: float | None = None
        self.ending = False
        self.last_lines: list[str] = []
        self._output = folder / f"{name}.log"
        environment = {
            **os.environ, **plan.environment, "REDIS_URL": redis_url, "TASKFLEET_WORKER_NAME": name,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] = kin.start(
            [
                sys.executable, "-m", "taskfleet", "worker", plan.app,
                "--queues", ",".join(queue.name for queue in plan.queues),
                "--concurrency", str(plan.concurrency), "--processes", str(plan.processes),
                "--probe-host", "127.0.0.1", "--probe-port", str(free_port()),
            ],
            environment=environment,
            output=self._output,
        )  # fmt: skip
        self._reader = self._output.open("rb")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.born

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self.ending = True
        if self.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self.returncode is None:
            self._process.kill()

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
