"""The pipe through which a worker process hands its figures to the supervisor that has started it.

A report is one line of JSON: what the process says of its health, and its families. One comes each second, and a last
one when the work is done. What a process has reported before it is killed stays in the pipe.

Families are imported when there is a report: a worker without a supervisor makes none.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taskfleet import showing

if TYPE_CHECKING:
    from taskfleet.process.families import Family

logger = showing.logger("taskfleet.worker")

_EVERY_SECONDS = 1.0
_SHARE = 50  # a report may take at most one part in so many of the time
_MOST_BYTES = 16_000_000
_JOIN_SECONDS = 5.0  # for the last report: on a busy machine both processes may stand still for a while


@dataclass(frozen=True, slots=True)
class FiguresReport:
    """What one process says of itself. `not_alive` and `not_ready` are "" when it is."""

    not_alive: str
    not_ready: str
    families: list[Family]


class FiguresSender:
    """Reports in a thread of its own, so that a blocked event loop reports too."""

    def __init__(self, descriptor: int, report: Callable[[], FiguresReport]) -> None:
        self._descriptor = descriptor
        self._report = report
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskfleet-figures", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Send the last report. It waits for the supervisor, but not for long: that may be frozen."""
        self._ended.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone
            while not self._ended.is_set():
                began = time.monotonic()
                self._send()
                self._ended.wait(max(_EVERY_SECONDS, _SHARE * (time.monotonic() - began)))
            self._send()
        with contextlib.suppress(OSError):
            os.close(self._descriptor)

    def _send(self) -> None:
        from taskfleet.process.families import dumped, to_json

        report = self._report()
        left = to_json({"alive": report.not_alive, "ready": report.not_ready, "families": dumped(report.families)})
        while left:
            left = left[os.write(self._descriptor, left) :]


class FiguresReader:
    """The supervisor's end of the pipe of one process."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        self._latest = b""
        self._heard = time.monotonic()
        self._parsed: tuple[bytes, FiguresReport] | None = None
        self._thread = threading.Thread(target=self._read, name="taskfleet-figures", daemon=True)

    def started(self) -> None:
        """The process has been started, or could not be."""
        os.close(self.write_end)

    def start(self) -> None:
        """Read in a thread. It starts after `started`, and after other processes that are to be forked."""
        self._thread.start()

    def leave_to_parent(self) -> None:
        """In a forked process: only its parent reads."""
        with contextlib.suppress(OSError):  # it was read to its end
            os.close(self._read_end)

    def finish(self) -> None:
        """The process has ended: read what is left."""
        self._thread.join(_JOIN_SECONDS)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._heard

    def report(self) -> FiguresReport | None:
        """The last report, None before the first."""
        from taskfleet.process.families import loaded

        line = self._latest
        if not line:
            return None
        if self._parsed is None or self._parsed[0] is not line:
            found = json.loads(line)
            self._parsed = line, FiguresReport(found["alive"], found["ready"], loaded(found["families"]))
        return self._parsed[1]

    def _read(self) -> None:
        with os.fdopen(self._read_end, "rb") as lines:
            while line := lines.readline(_MOST_BYTES):
                if not line.endswith(b"\n"):
                    continue  # cut off: the process was killed while it wrote
                self._latest, self._heard = line, time.monotonic()
