"""What the status says about `spec.schedules`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskfleet.errors import SerializationError
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.schedules import Entry, ScheduleState

from ...kept_schedules import Owner, WantedSchedule
from ..status.conditions import Condition, rfc3339

CONDITION, NO_SCHEDULES = "SchedulesReady", "NoSchedules"
OVERDUE_MS = 180_000  # a tick that nobody performs: workers from zero replicas need some of it


def statuses(wanted: Iterable[WantedSchedule], there: Iterable[Entry]) -> list[dict[str, Any]]:
    """`status.schedules`: the last and the next tick of each."""
    entries = {(entry.partition, entry.name): entry for entry in there}
    found: list[dict[str, Any]] = []
    for one in wanted:
        told: dict[str, Any] = {"name": one.name}
        entry = entries.get((one.partition, one.name))
        if entry is not None and Owner.of_entry(entry) is not None:
            last_ms = _last_ms(entry)
            if last_ms:
                told["lastScheduleTime"] = rfc3339(last_ms / 1000)
            if entry.tick_ms is not None:
                told["nextScheduleTime"] = rfc3339(entry.tick_ms / 1000)
        found.append(told)
    return found


def _last_ms(entry: Entry) -> int:
    try:
        return ScheduleState.unpack(entry.state).last_ms
    except SerializationError:
        return 0


def verdict(
    wanted: Sequence[WantedSchedule],
    foreign: Mapping[str, str],
    there: Iterable[Entry],
    now_ms: int,
    refusing: Sequence[str] = (),
) -> Condition:
    """The condition after the schedules were brought in line. `refusing` are workers that take only sealed ones."""
    if foreign:
        taken = ", ".join(f"{name} (of {whose})" for name, whose in sorted(foreign.items()))
        told = (
            f"these names are taken, and those schedules stay as they are: {taken}; rename them here, or remove those"
        )
        return Condition(CONDITION, False, "NameTaken", told)
    if not wanted:
        return Condition(CONDITION, True, NO_SCHEDULES, "the spec has none")
    if refusing and not all(one.spec.paused for one in wanted):
        told = (
            f"the application has keys, so that its workers ({_few(refusing)}) refuse a schedule that is not sealed, "
            f"and the operator has no keys: add {_few([one.name for one in wanted])} with queue.add_schedule() in a "
            "program that has them, and remove it from spec.schedules"
        )
        return Condition(CONDITION, False, "NotSealed", told)
    names = {(one.partition, one.name) for one in wanted}
    late = [
        f"{entry.name} of queue {queue_of(entry.partition)} (due {rfc3339(entry.tick_ms / 1000)})"
        for entry in there
        if (entry.partition, entry.name) in names and entry.tick_ms is not None and entry.tick_ms < now_ms - OVERDUE_MS
    ]
    if late:
        told = (
            f"no worker performs {', '.join(late)}: none with a scheduler runs, or the queue is full, or the worker "
            "cannot read it, which its log says"
        )
        return Condition(CONDITION, False, "Overdue", told)
    still = sum(one.spec.paused for one in wanted)
    told = f"{len(wanted)} schedules are in Redis" + (f", {still} of them suspended" if still else "")
    return Condition(CONDITION, True, "InSync", told)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
