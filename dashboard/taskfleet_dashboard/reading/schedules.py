"""Schedules: their next ticks in their zone, and the outcome of the last."""

from __future__ import annotations

from datetime import UTC, datetime

from taskfleet.errors import SerializationError
from taskfleet.protocol import result_record
from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.schedules import Entry
from taskfleet.redis.broker import RedisBroker
from taskfleet.scheduling.record import ScheduleSpec, schedule_of
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.fleet import ScheduleRow, SchedulesAnswer
from taskfleet_dashboard.refusals import Refused

_TICKS = 3
_MOST_OUTCOMES = 200  # schedules whose last task is looked up


async def entry_of(broker: RedisBroker, queue: str, name: str) -> Entry:
    """One schedule. Errors: `Refused` when there is none of that name in that queue."""
    for entry in await broker.schedules.entries():
        if entry.name == name and queue_of(entry.partition) == queue:
            return entry
    raise Refused(404, f"no schedule is named {name[:100]!r} in queue {queue[:100]!r}")


async def schedules_answer(broker: RedisBroker) -> SchedulesAnswer:
    """All schedules, by name. One that cannot be read says why."""
    rows: list[ScheduleRow] = []
    looked = 0
    for entry in sorted(await broker.schedules.entries(), key=lambda each: (each.name, each.partition)):
        try:
            row, task_id = _row(entry)
        except SerializationError as error:
            rows.append(_unreadable(entry, str(error)))
            continue
        if task_id and looked < _MOST_OUTCOMES:
            looked += 1
            state, record = await broker.status(entry.partition, task_id)
            outcome = _outcome(state, record, entry, task_id, broker)
            row = row.model_copy(update={"last_outcome": outcome})
        rows.append(row)
    return SchedulesAnswer(items=rows, cursor=None)


def _outcome(state: str, record: bytes, entry: Entry, task_id: str, broker: RedisBroker) -> str | None:
    """The state of the last task, as far as anything of it is kept."""
    queue = queue_of(entry.partition)
    if state == "unknown":
        return None
    if state == "dead":
        return text.line(DeadLetter.of_packed(task_id, record, queue=queue, seal=broker.seal).state)
    if state != "ended":
        return text.line(state)
    try:
        return text.line(result_record.unpack_end(record, queue=queue, task_id=task_id, seal=broker.seal)[0])
    except SerializationError:
        return "ended"


def _row(entry: Entry) -> tuple[ScheduleRow, str | None]:
    found, spec = schedule_of(entry), ScheduleSpec.unpack(entry.spec)
    ticks: list[datetime] = []
    if not found.paused:
        at_ms: int | None = entry.tick_ms
        while at_ms is not None and len(ticks) < _TICKS:
            try:
                ticks.append(datetime.fromtimestamp(at_ms / 1000, UTC))
            except (ValueError, OverflowError, OSError):
                break
            at_ms = spec.timing.following(at_ms)
    when = found.schedule or f"every {found.every:g} s"
    row = ScheduleRow(
        name=text.whole(found.name),
        queue=found.queue,
        task=text.whole(found.task),
        schedule=text.line(when),
        time_zone=text.line(found.time_zone if found.schedule else "UTC"),
        paused=found.paused,
        next=ticks,
        last_at=found.last_at,
        last_task_id=text.name(found.last_task_id),
        last_outcome=None,
        concurrency_policy=found.concurrency_policy,
        starting_deadline_seconds=found.starting_deadline_seconds,
        owner=text.line(spec.owner),
        fired_total=found.fired_total,
        skipped_total=found.skipped_total,
        dropped_total=found.dropped_total,
        problem="",
    )
    return row, found.last_task_id


def _unreadable(entry: Entry, why: str) -> ScheduleRow:
    return ScheduleRow(
        name=text.whole(entry.name), queue=queue_of(entry.partition), task="", schedule="", time_zone="UTC",
        paused=False, next=[], last_at=None, last_task_id=None, last_outcome=None, concurrency_policy="",
        starting_deadline_seconds=None, owner="", fired_total=0, skipped_total=0, dropped_total=0,
        problem=text.line(why),
    )  # fmt: skip
