"""The command line of a worker process that another process of the command starts."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

_REDIS = "TASKFLEET_WORKER_REDIS"  # not an argument, since a URL may have a password and `ps` shows arguments
_TERMINAL = "TASKFLEET_WORKER_TERMINAL"

DEV = "dev"
DEV_WITH_VALKEY = "dev-with-valkey"  # the terminal of `taskfleet dev`, whose Valkey ends with it


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """`taskfleet worker` with these options; `of(n)` is the command line of process `n`."""

    application: str
    queues: str = ""
    concurrency: int | None = None
    probe_port: int = 0
    probe_host: str = "::"
    name: str = ""
    burst: bool = False

    def of(self, n: int) -> list[str]:
        return [
            sys.executable, "-m", "taskfleet", "worker", self.application, "--number", str(n),
            *(["--queues", self.queues] if self.queues else []),
            *(["--concurrency", str(self.concurrency)] if self.concurrency is not None else []),
            "--probe-port", str(self.probe_port), "--probe-host", self.probe_host,
            *(["--name", self.name] if self.name else []), *(["--burst"] if self.burst else []),
        ]  # fmt: skip

    def check(self) -> list[str]:
        """Ends with 0 when a worker could start, and prints why not."""
        return [*self.of(0), "--check"]


def pass_on(redis: str, terminal: str = "") -> None:
    """The workers that this process starts connect to `redis`, and know that their output is `terminal`, if given."""
    for variable, value in ((_REDIS, redis), (_TERMINAL, terminal)):
        if value:
            os.environ[variable] = value


def passed_on() -> tuple[str, str]:
    """The Redis and the terminal that the parent has passed on. Children of this process do not get them."""
    return os.environ.pop(_REDIS, ""), os.environ.pop(_TERMINAL, "")
