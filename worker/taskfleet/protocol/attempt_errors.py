"""The errors of a task's attempts: a bounded list, kept while the task runs again and in its dead letter afterwards.

lua/queue/errors.lua does the same in Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import msgpack

from taskfleet import foreign

MOST_ERRORS = 10
MOST_BYTES = 8192  # of the error records of one task; older errors are dropped, the newest stays
MOST_FAILING = 20_000  # tasks of one partition that have errors
_MOST_STORED = 1_048_576  # of a list that is read


class StoredError(NamedTuple):
    """How one attempt ended. Times are in ms; `next_ms` is 0 when no attempt followed.

    `by` is the incarnation of a worker that was lost; a worker that lived names itself in the record.
    """

    attempt: int
    at_ms: int
    next_ms: int
    record: bytes
    by: str


def with_error(earlier: Sequence[StoredError], error: StoredError) -> list[StoredError]:
    """The errors after one more, within the bounds."""
    kept, size = [error], len(error.record)
    for one in reversed(earlier):
        size += len(one.record)
        if len(kept) == MOST_ERRORS or size > MOST_BYTES:
            break
        kept.insert(0, one)
    return kept


def pack(errors: Sequence[StoredError]) -> bytes:
    """The list as Redis stores it."""
    return cast("bytes", msgpack.packb(errors, use_bin_type=False))


def unpack(packed: bytes) -> list[StoredError]:
    """The errors in a stored list; those that another program has written are skipped."""
    found: list[StoredError] = []
    for entry in _entries(packed):
        if not isinstance(entry, list) or len(entry) < 5:
            continue
        attempt, at_ms, next_ms, record, by = entry[:5]
        times = (attempt, at_ms, next_ms)
        if all(isinstance(n, (int, float)) and 0 <= n <= foreign.LAST_MS for n in times) and isinstance(record, bytes):
            found.append(StoredError(int(attempt), int(at_ms), int(next_ms), record, foreign.text(by)))
    return found[-MOST_ERRORS:]


def _entries(packed: bytes) -> list[object]:
    if not packed or len(packed) > _MOST_STORED:
        return []
    try:
        value: object = msgpack.unpackb(packed, raw=True, max_array_len=64, max_map_len=0, max_ext_len=0)
    except Exception:  # damaged bytes can raise anything
        return []
    return value if isinstance(value, list) else []
