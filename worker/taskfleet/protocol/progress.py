"""The progress of a task, as its handler reports it."""

from __future__ import annotations

import datetime as dt
import math
import struct
from dataclasses import dataclass
from typing import cast

import msgpack

from taskfleet import describing
from taskfleet.errors import SerializationError
from taskfleet.protocol import unpacking

ProgressReport = tuple[str, int, bytes]
"""Task id, delivery, and the packed report of a running task."""

_NOTE_LIMIT = 1000
_RECORD_BYTES = 65_536
_stamp = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class Progress:
    """The last report of a task: `done` of `total` (if known), a note, and the time when Redis received it."""

    done: float
    total: float | None
    note: str
    at: dt.datetime

    @property
    def fraction(self) -> float | None:
        """`done / total`, from 0 to 1; `None` without a total."""
        return min(1.0, max(0.0, self.done / self.total)) if self.total else None

    @classmethod
    def of_record(cls, record: bytes) -> Progress:
        """Read a record of progress.lua: the time in milliseconds as a big-endian double, and the packed report.

        Errors: `SerializationError` for any other bytes.
        """
        try:
            (at_ms,) = _stamp.unpack_from(record)
            done, total, note = unpacking.record(record[_stamp.size :], most_bytes=_RECORD_BYTES)[:3]
            if isinstance(done, (int, float)) and (total is None or isinstance(total, (int, float))):
                said = note.decode("utf-8", "replace")[:_NOTE_LIMIT]
                return cls(done, total, said, dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC))
            problem = "it says no numbers"
        except (SerializationError, ValueError, OverflowError, OSError, AttributeError, struct.error) as error:
            problem = str(error)
        raise SerializationError(f"the progress report cannot be read: {problem}")


def pack_report(done: float, total: float | None, note: str) -> bytes:
    """A report in the form that a worker sends; a note longer than 1000 characters is cut.

    Errors: `TypeError` when `done` or `total` is no number.
    """
    for name, value in (("done", done), ("total", total)):
        if not isinstance(value, (int, float)) and not (name == "total" and value is None):
            raise TypeError(f"progress: {name}={value!r} is no number")
    said = describing.encodable(str(note)[:_NOTE_LIMIT])
    try:
        return cast("bytes", msgpack.packb((done, total, said)))
    except OverflowError:
        return cast("bytes", msgpack.packb((_as_float(done), None if total is None else _as_float(total), said)))


def _as_float(number: float) -> float:
    """The float for a whole number that messagepack cannot hold."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
