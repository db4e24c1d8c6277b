"""Calls on what is kept over time: rings of figures, decisions of scalers, and who records."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from taskfleet import foreign
from taskfleet.protocol.rings import Rings
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.keys import FleetKeys


def record(key: str, rings: Rings, gauges: bytes, totals: bytes, *, makes: bool = True) -> ScriptCall[bool]:
    """Write figures into all rings of `key`; unless it `makes` rings, only where there are some.

    False for a string of another program.
    """
    shapes = msgpack.packb([(*shape[:3], int(shape.totals), shape.parts) for shape in rings.shapes])
    args = (rings.size, rings.kept_seconds * 1000, gauges, totals, shapes, int(makes))
    return ScriptCall(scripts.HISTORY_RECORD, (key,), args, bool)


class RingReply(NamedTuple):
    """The bytes of a part of the rings, empty when there are none, and the time that steps are counted by."""

    now_ms: int
    part: bytes


def read(key: str, *, whole: int, first: int, size: int) -> ScriptCall[RingReply]:
    """Read `size` bytes of the rings of `key`, from `first`."""
    return ScriptCall(scripts.HISTORY_READ, (key,), (whole, first, first + size - 1), _ring)


def _ring(reply: Any) -> RingReply:
    now_ms, part = reply
    if not isinstance(part, bytes):
        raise foreign.ForeignError("a text of another program, where a history is kept")
    return RingReply(int(now_ms), part)


class DecisionBounds(NamedTuple):
    """How many decisions of a scaler are kept, their bytes, for how long, and how many scalers are remembered."""

    most: int
    most_bytes: int
    kept_ms: int
    remembered_ms: int
    most_scalers: int


def decision(fleet: FleetKeys, scaler: str, packed: bytes, summary: bytes, bounds: DecisionBounds) -> ScriptCall[int]:
    """Keep a decision of a scaler. The reply is the number of its decisions."""
    names = (fleet.decisions(scaler), fleet.scalers, fleet.latest)
    return ScriptCall(scripts.DECISION_RECORD, names, (scaler, packed, summary, *bounds), int)


class Elected(NamedTuple):
    """Whether the one that asked is the one that records, and the time of Redis."""

    records: bool
    now_ms: int


def elect(fleet: FleetKeys, name: str, *, ttl_ms: int) -> ScriptCall[Elected]:
    """Ask to be the one that records, for `ttl_ms`; with 0, give way."""
    return ScriptCall(scripts.ELECT, (fleet.recorder,), (name, ttl_ms), lambda reply: Elected(bool(reply[0]), reply[1]))
