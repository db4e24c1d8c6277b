"""Peers as child processes that speak JSON, one object a line."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from bench.errors import BenchError
from taskfleet.child_process import ends_with_this_process


class PeerProcess:
    """One running peer program.

    A request is `{"op": …}` on its standard input; the answer's `event` is `done` or `error`. Its standard error is
    kept and shown when something fails.
    """

    def __init__(self, label: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._label = label
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **environment},
            preexec_fn=ends_with_this_process(),
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # a peer ends with its input
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._reader.join(5)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def send(self, op: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self._label} ended by itself: {self._last_line()}") from None

    def expect(self, event: str, timeout: float) -> dict[str, Any]:
        """The next answer, which must be `event`, within `timeout` seconds."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise BenchError(f"{self._label} gave no {event!r} within {timeout:g} s: {self._last_line()}") from None
        if line is None:
            raise BenchError(f"{self._label} ended by itself: {self._last_line()}")
        try:
            answer = json.loads(line)
        except ValueError:
            raise BenchError(f"{self._label} answered {line.strip()!r}, which is not JSON") from None
        if answer.get("event") != event:
            raise BenchError(f"{self._label}: {answer.get('error', answer)}")
        return dict(answer)

    def ask(self, op: str, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its `done`."""
        self.send(op, **arguments)
        return self.expect("done", timeout)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(5)

    def resident_bytes(self) -> int | None:
        """Resident memory now; None where there is no /proc."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float | None:
        """Processor time of all its threads so far, to 10 ms; None where there is no /proc."""
        try:
            stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        except OSError:
            return None
        # The name in parentheses may hold anything; utime and stime are the 12th and 13th fields after it.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _last_line(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"
