"""What a function in another process has come to, as its worker sees it: a return value, an error, a death."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskfleet import describing
from taskfleet.errors import PayloadTooLargeError, SerializationError
from taskfleet.protocol import result_record

if TYPE_CHECKING:
    from taskfleet.travel.value import Value


class ChildError(Exception):
    """An exception that a function raised in its process, as far as it can be transferred."""

    def __init__(self, message: str, traceback: str, classes: list[str], delay: float | None) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.classes = classes
        self.delay = delay


class ProcessDiedError(Exception):
    """The process of a task ended while the task was running."""


class Returned:
    """The return value of a function in its process, as a result record; `bad` tells why there is no record."""

    __slots__ = ("_bad", "_record", "_too_large", "seen")

    def __init__(self, record: bytes, bad: str = "", *, too_large: bool = False) -> None:
        self._record = record
        self._bad = bad
        self._too_large = too_large
        self.seen: Any = None  # as middleware has seen it

    def record(self) -> bytes:
        """The result record; raises `SerializationError`."""
        if self._bad:
            raise (PayloadTooLargeError if self._too_large else SerializationError)(self._bad)
        return self._record

    def value(self, result: Value) -> Any:
        """The value as the function returned it.

        A value that cannot be encoded stays as it is; the worker refuses it.
        """
        if self._bad:
            self.seen = self
        else:
            self.seen = result.load(result_record.unpack_result(self._record, queue="", task_id=""))
        return self.seen


def class_name(kind: type) -> str:
    """The name of an exception class in messages between processes."""
    return describing.encodable(f"{kind.__module__}:{kind.__qualname__}")
