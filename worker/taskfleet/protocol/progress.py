"""The progress of a task, as its readers see it."""

from __future__ import annotations

import datetime as dt
import struct
from dataclasses import dataclass

from taskfleet.errors import SerializationError
from taskfleet.protocol import unpacking
from taskfleet.protocol.progress_report import NOTE_LIMIT

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
                said = note.decode("utf-8", "replace")[:NOTE_LIMIT]
                return cls(done, total, said, dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC))
            problem = "it says no numbers"
        except (SerializationError, ValueError, OverflowError, OSError, AttributeError, struct.error) as error:
            problem = str(error)
        raise SerializationError(f"the progress report cannot be read: {problem}")
