"""The record of one scaling decision, and its bytes.

An entry is a key frame or a difference. A difference is compressed with the body of the last key frame as its
dictionary, and so takes little more than what has changed. The state of the autoscaler is in key frames only.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from taskfleet import foreign

BODY_LIMIT: Final = 131_072
"""Bytes of one record as JSON, and of the state beside it."""

KEY_FRAME, DIFFERENCE = b"K", b"D"
_TEXT_LIMIT = 1000  # characters
_DIGITS = 16  # of `foreign.LARGEST`


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One decision with all that it was made from.

    `decided` is what the autoscaler's function gave, `desired` what was carried out: a rollout, or a worker that must
    not be taken, may hold it. `terms` are the figures of the whole fleet, `queues` the terms of each queue. `sample`
    has all facts, `spec` the rules of the autoscaler, as in a manifest. `now` is its time in seconds, by
    a clock of the process that decided. `state` is the autoscaler's memory before the decision, in some records only.
    `at` is by the clock of Redis when it was written.
    """

    at: datetime
    current: int
    desired: int
    decided: int
    reason: str
    message: str
    limited_by: str = ""
    limit_message: str = ""
    terms: Mapping[str, float] = field(default_factory=dict[str, float])
    queues: Sequence[Mapping[str, Any]] = ()
    sample: Mapping[str, Any] = field(default_factory=dict[str, Any])
    spec: Mapping[str, Any] = field(default_factory=dict[str, Any])
    now: float = 0.0
    state: Mapping[str, Any] | None = None

    @property
    def outcome(self) -> tuple[int, str, str]:
        """What a reader would miss when this record were left out."""
        return self.desired, self.reason, self.limited_by


def body_of(record: DecisionRecord) -> bytes:
    """The JSON of a record without its time and its state."""
    return _json(
        {
            "spec": record.spec,
            "sample": record.sample,
            "queues": list(record.queues),
            "terms": record.terms,
            "current": record.current,
            "desired": record.desired,
            "decided": record.decided,
            "reason": record.reason[:_TEXT_LIMIT],
            "message": record.message[:_TEXT_LIMIT],
            "limited_by": record.limited_by[:_TEXT_LIMIT],
            "limit_message": record.limit_message[:_TEXT_LIMIT],
            "now": record.now,
        }
    )


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def key_frame(body: bytes, state: Mapping[str, Any] | None) -> bytes:
    """The entry of a record that can be read alone. A state that is too large is left out."""
    beside = b"null" if state is None else _json(state)
    if len(beside) > BODY_LIMIT:
        beside = b"null"
    return KEY_FRAME + zlib.compress(body + b"\n" + beside)


def difference(body: bytes, frame: bytes) -> bytes:
    """The entry of a record that is read with the body of a key frame."""
    made = zlib.compressobj(zdict=frame)
    return DIFFERENCE + made.compress(body) + made.flush()


def bodies_of(entry: bytes, frames: Sequence[bytes]) -> tuple[bytes, bytes]:
    """(body, state) of an entry. `frames` are bodies of key frames, of which the likeliest is the first.

    Errors: `foreign.ForeignError`.
    """
    if entry[:1] == KEY_FRAME:
        body, _, state = _expanded(zlib.decompressobj(), entry[1:]).partition(b"\n")
        return body, state or b"null"
    if entry[:1] == DIFFERENCE:
        for frame in frames:
            try:
                return _expanded(zlib.decompressobj(zdict=frame), entry[1:]), b"null"
            except foreign.ForeignError:
                continue  # it belongs to another frame: two processes have written
    raise foreign.ForeignError("no decision of Taskfleet, or the one that it is told from is gone")


def _expanded(stream: Any, packed: bytes) -> bytes:
    try:
        found: bytes = stream.decompress(packed, 2 * BODY_LIMIT + 2)
    except zlib.error as error:
        raise foreign.ForeignError(f"no compressed decision: {error}") from None
    if not stream.eof:
        raise foreign.ForeignError("a decision that is cut, or too large")
    return found


def read_record(at: datetime, body: bytes, state: bytes) -> DecisionRecord:
    """The record of these bytes. Errors: `foreign.ForeignError` for what is none."""
    try:
        found, beside = json.loads(body, parse_int=_whole), json.loads(state, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise foreign.ForeignError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise foreign.ForeignError("no record")
    queues = found.get("queues")
    return DecisionRecord(
        at=at,
        current=_number(found, "current"),
        desired=_number(found, "desired"),
        decided=_number(found, "decided"),
        reason=_text(found, "reason"),
        message=_text(found, "message"),
        limited_by=_text(found, "limited_by"),
        limit_message=_text(found, "limit_message"),
        terms={name: value for name, value in _map(found, "terms").items() if _is_finite(value)},
        queues=tuple(queue for queue in queues if isinstance(queue, dict)) if isinstance(queues, list) else (),
        sample=_map(found, "sample"),
        spec=_map(found, "spec"),
        now=float(found["now"]) if _is_finite(found.get("now")) else 0.0,
        state=beside if isinstance(beside, dict) else None,
    )


def _whole(digits: str) -> float:
    """A whole number of JSON, which may have thousands of digits; the first sum with one that no float holds raises."""
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or not 0 <= value <= foreign.LARGEST:
        raise foreign.ForeignError(f"{name} is no number of replicas")
    return value


def _text(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name, "")
    return value[:_TEXT_LIMIT] if isinstance(value, str) else ""


def _map(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}
