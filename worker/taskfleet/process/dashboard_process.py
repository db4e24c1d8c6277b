"""The dashboard as a child of a command that runs an application on this machine: `taskfleet dev` and `taskfleet up`.

It is a process of its own, so that nothing that happens to it disturbs a worker. It ends with the command, whatever
ends that one, and is started again when it dies.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import IO

from taskfleet.child_process import Child
from taskfleet.errors import ConfigurationError

DEFAULT_PORT = 8080
OPTION = "--dashboard-port"

_WORKERS_FIRST_SECONDS = 1.5  # they start meanwhile, on a machine with few cores as soon as without a dashboard
_CANNOT_START = 2  # the exit code of a mistake in the application or the command line
_STABLE_SECONDS = 10.0
_LONGEST_BACKOFF_SECONDS = 30.0
_END_SECONDS = 3.0
_PARTS = ("taskfleet_dashboard", "fastapi", "uvicorn")
_ADDRESS = re.compile(r"dashboard: (https?://\S+:(\d{1,5}))")  # all else may be what the application prints


class DashboardProcess:
    """`tend` is called several times a second and does all the work. `say` gets one line at a time."""

    def __init__(
        self, application: str, port: int, say: Callable[[str], None], environment: Mapping[str, str] | None
    ) -> None:
        self._application = application
        self._port = port
        self._say = say
        self._environment = environment
        self._child: Child | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader: threading.Thread | None = None
        self._started = 0.0
        self._start_at = time.monotonic() + _WORKERS_FIRST_SECONDS
        self._failures = 0
        self._url = ""

    @property
    def url(self) -> str:
        """Where it is; empty until it answers."""
        return self._url

    def tend(self) -> None:
        """Start it, pass on what it says, and start it again after it has died."""
        self._tell()
        now = time.monotonic()
        if self._child is None:
            if now >= self._start_at:
                self._start(now)
            return
        code = self._child.ended()
        if code is None:
            return
        self._child = None
        self._join()
        self._tell()
        if code == _CANNOT_START:
            self._start_at = float("inf")
            return
        self._failures = 0 if now - self._started > _STABLE_SECONDS else self._failures + 1
        delay = min(_LONGEST_BACKOFF_SECONDS, 0.5 * 2.0**self._failures)
        self._start_at = now + delay
        self._say(f"the dashboard ended with {code}; it is started again in {delay:.1f} s")

    def end(self) -> None:
        """End it; after 3 s the kernel does."""
        if self._child is not None:
            self._child.drain()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.process.wait(_END_SECONDS)
            self._child.process.kill()
            self._child.process.wait()
            self._child.ended()
            self._child = None
        self._join()

    def _start(self, now: float) -> None:
        self._started = now
        command = [
            sys.executable, "-m", "taskfleet", "dashboard", "--app", self._application, "--port", str(self._port),
            "--log-level", "WARNING",
        ]  # fmt: skip
        self._child = Child(
            command, environment=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert self._child.process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._child.process.stdout,), name="taskfleet-dashboard", daemon=True
        )
        self._reader.start()

    def _read(self, output: IO[bytes]) -> None:
        with output:
            for line in output:
                self._lines.put(line.decode("utf-8", "replace").rstrip())

    def _join(self) -> None:
        if self._reader is not None:
            self._reader.join(1.0)

    def _tell(self) -> None:
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return
            told = _ADDRESS.fullmatch(line)
            if told is None:
                self._say(f"dashboard | {line}")
            elif told[1] != self._url:  # one that was started again has the same address
                self._url, self._port = told[1], int(told[2])
                self._say(line)


@contextlib.contextmanager
def beside(
    application: str,
    port: int | None,
    say: Callable[[str], None],
    *,
    wanted: bool = True,
    environment: Mapping[str, str] | None = None,
) -> Generator[DashboardProcess | None]:
    """The dashboard for the time of the block; the caller tends it. None when nobody wants it or a package is missing.

    Without a `port` it is 8080, or any other when somebody has that one. Without an `environment` it is this process'.
    Errors: `ConfigurationError` for a port that somebody has.
    """
    if not wanted:
        if port is not None:
            raise ConfigurationError(f"{OPTION} says where the dashboard is, and --no-dashboard that there is none")
        yield None
        return
    if not all(map(importlib.util.find_spec, _PARTS)):
        if port is not None:
            raise ConfigurationError(f"{OPTION}: the dashboard needs: pip install 'taskfleet[web]'")
        say("no dashboard; for one: pip install 'taskfleet[web]'")
        yield None
        return
    chosen = DEFAULT_PORT if port is None else port
    if chosen and not _is_free(chosen):
        if port is not None:
            raise ConfigurationError(f"{OPTION} {port}: another program has it; choose another port")
        chosen = 0
    process = DashboardProcess(application, chosen, say, environment)
    try:
        yield process
    finally:
        process.end()


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
