"""The ledger outside the queue: one append-only file for each process, one write(2) for each note.

Notes survive the death of their process, because the kernel has them. Times are seconds of the monotonic clock, which
all processes of a machine share. A note is a JSON list, its first item the verb.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """Writes the notes of this process."""

    def __init__(self, folder: Path, role: str) -> None:
        self.path = folder / f"{role}.{os.getpid()}.ledger"
        self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def note(self, *values: Any) -> None:
        os.write(self._file, (json.dumps(values, separators=(",", ":")) + "\n").encode())

    def notes(self, many: list[tuple[Any, ...]]) -> None:
        """Several notes that stand or fall together."""
        os.write(self._file, "".join(json.dumps(n, separators=(",", ":")) + "\n" for n in many).encode())

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> Iterator[list[Any]]:
    """The notes of one file; a last line that was cut short is left out."""
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def now() -> float:
    """Seconds of the clock that all ledgers share."""
    return time.monotonic()
