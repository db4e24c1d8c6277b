"""The conditions of a TaskQueue's status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from taskfleet import showing

_MESSAGE_LIMIT = 1024  # characters: a message may repeat the answer of a server


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as it should be. `merge` finds out when it last changed.

    A `rare` one is not written before it is true for the first time. `generation` is that of the spec that the
    condition is about, None for the newest.
    """

    type: str
    status: bool | None
    reason: str
    message: str = ""
    rare: bool = False
    generation: int | None = None


def rfc3339(seconds: float) -> str:
    """Unix seconds as Kubernetes writes times."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def merge(
    previous: Iterable[Mapping[str, Any]], wanted: Iterable[Condition], generation: int, now: float
) -> list[dict[str, Any]]:
    """The list for status; `generation` is that of the newest spec. `lastTransitionTime` changes only with a
    condition's status. Other conditions stay.
    """
    before = {condition["type"]: dict(condition) for condition in previous}
    for condition in wanted:
        status = "Unknown" if condition.status is None else str(condition.status)
        old = before.get(condition.type)
        if old is None and condition.rare and not condition.status:
            continue
        same = old is not None and old.get("status") == status
        before[condition.type] = {
            "type": condition.type,
            "status": status,
            "reason": condition.reason,
            "message": showing.shown(condition.message, _MESSAGE_LIMIT),
            "observedGeneration": generation if condition.generation is None else condition.generation,
            "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else rfc3339(now),
        }
    return list(before.values())
