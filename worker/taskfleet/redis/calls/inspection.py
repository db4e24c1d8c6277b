"""Calls that read single tasks and pages of them: inspect, places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from taskfleet import foreign
from taskfleet.protocol.task_record import Inspection, Place, Structure, TaskRecord
from taskfleet.redis import scripts
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.keys import QueueKeys


def inspect(keys: QueueKeys, ids: Sequence[str], *, most_bytes: int, line: int) -> ScriptCall[Inspection]:
    """The records of a few tasks. Of a larger payload than `most_bytes`, only the first bytes are read.

    A ready task is looked for in the first `line` places of the queue.
    """
    script_keys = (*keys, *(keys.result(task_id) for task_id in ids))
    args = (msgpack.packb(ids, use_bin_type=False), most_bytes, line)
    return ScriptCall(scripts.INSPECT, script_keys, args, lambda reply: _inspection(ids, reply))


def _inspection(ids: Sequence[str], reply: list[Any]) -> Inspection:
    now_ms, paused, running, tokens, filled, found = reply
    records = [_record(task_id, values) for task_id, values in zip(ids, found, strict=False)]
    counted = _number(tokens, -math.inf)
    return Inspection(
        now_ms, bool(paused), running, None if counted == -math.inf else counted, int(_number(filled)), records
    )


def _record(task_id: str, values: list[Any]) -> TaskRecord:
    (
        state, blob, size, history, token, lease, due, unique, limit, fair, parked, ahead, pending, holder, cancelling,
        record, record_size, progress, errors, key_runs, key_at, kept,
    ) = values  # fmt: skip
    counts = [int(_number(part)) for part in history.split(b":")]
    attempt, delivery, crashes, since = counts if len(counts) == 4 else (1, 0, 0, 0)
    owner, _, number = token.rpartition(b":")
    return TaskRecord(
        id=task_id,
        state=foreign.text(state),
        blob=blob,
        size=size,
        attempt=attempt,
        delivery=int(_number(number, delivery)) if owner else delivery,
        crashes=crashes,
        since_ms=since,
        owner=foreign.text(owner),
        lease_ms=int(_number(lease)),
        due_ms=int(_number(due)),
        unique=_text(unique),
        limit=_text(limit),
        fair=_text(fair),
        parked=bool(parked),
        ahead=ahead,
        pending=int(_number(pending)),
        holder=foreign.text(holder or b""),
        cancelling=bool(cancelling),
        record=record,
        record_size=record_size,
        progress=progress,
        errors=errors,
        key_runs=int(_number(key_runs)),
        key_at_ms=int(_number(key_at)),
        kept_ms=max(0, kept),
    )


def _text(value: bytes) -> str | None:
    return foreign.text(value) if value else None


def _number(value: Any, missing: float = 0) -> float:
    """A finite number within what Taskfleet writes; `missing` for anything else."""
    try:
        number = float(value or "nan")
    except ValueError:
        return missing
    return number if -foreign.LAST_MS <= number <= foreign.LAST_MS else missing


def places(keys: QueueKeys, structure: Structure, after: Place | None, *, limit: int) -> ScriptCall[list[Place]]:
    """The next members of a structure, in its order."""
    position: float | str = ""
    if after is not None:
        position = int(after.position) if structure == "ready" else after.position
    args = (structure, limit, position, after.member if after is not None else "")
    return ScriptCall(scripts.PLACES, keys, args, _places)


def _places(reply: list[bytes]) -> list[Place]:
    return [Place(float(position), member) for position, member in zip(reply[::2], reply[1::2], strict=True)]


class LimitKey(NamedTuple):
    """A limit key that tasks wait for: how many wait, and how many run."""

    key: bytes
    waiting: int
    running: int


def limit_keys(keys: QueueKeys, after: bytes, *, limit: int) -> ScriptCall[list[LimitKey]]:
    """The next limit keys that tasks wait for, in the order of the keys, `after` the last one of the page before."""
    return ScriptCall(scripts.LIMIT_KEYS, keys, (after, limit), _limit_keys)


def _limit_keys(reply: list[Any]) -> list[LimitKey]:
    threes = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    return [LimitKey(key, int(waiting), max(0, int(_number(running)))) for key, waiting, running in threes]
