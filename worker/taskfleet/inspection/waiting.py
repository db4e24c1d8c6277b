"""Where a task waits and for what, in one plain sentence. A pure function of what the queue knows at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskfleet import showing
from taskfleet.options import QueueOptions
from taskfleet.protocol.task_record import Inspection, TaskRecord
from taskfleet.protocol.worker_info import WorkerInfo

_CLAIMING = ("starting", "running")
_MOST_NAMED = 3  # tasks that one sentence names
_STATES = {
    "running": "is running", "ready": "is ready", "delayed": "is delayed", "blocked": "is blocked itself",
    "retrying": "waits for its next attempt", "unknown": "is not known any more",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a waiting task depends on: its queue, the workers of that queue, and the tasks that come before it.

    `others` are (id, state) of tasks that it waits for, as many as were found. `line` is the number of places in which
    it was looked for.
    """

    moment: Inspection
    options: QueueOptions
    workers: Sequence[WorkerInfo]
    others: Sequence[tuple[str, str]] = ()
    max_retries: int | None = None
    line: int = 0


def sentence(record: TaskRecord, around: Surroundings) -> str | None:
    """Why a task waits; `None` for one that runs or has ended."""
    match record.state:
        case "running":
            return _of_running(record, around)
        case "blocked":
            return _of_blocked(record, around)
        case "delayed" | "retrying":
            why = _of_later(record, around)
            hindrance = _hindrance(around)
            return f"{why}; {hindrance}" if hindrance else why
        case "ready":
            return _hindrance(around) or _of_ready(record, around)
        case _:
            return None


def span(ms: float) -> str:
    """A duration in words: in the largest unit of which there are at least two."""
    seconds = max(0.0, ms / 1000)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s" if seconds else "0 s"


def _of_running(record: TaskRecord, around: Surroundings) -> str | None:
    late = around.moment.now_ms - record.lease_ms
    if late > 0:
        return f"for another worker: the lease of its worker ended {span(late)} ago"
    return "for its worker to stop it, since it was cancelled" if record.cancelling else None


def _of_blocked(record: TaskRecord, around: Surroundings) -> str:
    pending = max(record.pending, len(around.others), 1)
    if not around.others:
        return "for another task" if pending == 1 else f"for {pending} other tasks"
    if pending == 1:
        task_id, state = around.others[0]
        return f"for task {task_id}, which {_STATES.get(state, f'has ended ({state})')}"
    named = [f"{task_id} ({state})" for task_id, state in around.others[:_MOST_NAMED]]
    more = f" and {pending - len(named)} more" if pending > len(named) else ""
    return f"for {pending} tasks: {', '.join(named)}{more}"


def _of_later(record: TaskRecord, around: Surroundings) -> str:
    now = around.moment.now_ms
    if record.parked:
        return _of_limit_key(record, around)
    if record.holder and record.holder != record.id:
        return f"for task {record.holder}, which has its unique key {_key(record.unique)}"
    when = f"in {span(record.due_ms - now)}" if record.due_ms > now else "which has come: the next claim takes it"
    if record.state == "delayed":
        return f"for its time, {when}"
    of = f" of {around.max_retries + 1}" if around.max_retries is not None else ""
    return f"for attempt {record.attempt}{of}, {when if record.due_ms > now else 'whose time has come'}"


def _of_limit_key(record: TaskRecord, around: Surroundings) -> str:
    key, most = f"limit key {_key(record.limit)}", around.options.concurrency_per_key
    if most and record.key_runs >= most:
        return f"for {key}: {record.key_runs} of {most} run"
    ms = record.key_at_ms - around.moment.now_ms
    if ms > 0:
        return f"for {key}: its rate limit lets the next task start in {span(ms)}"
    return f"for {key}: {record.key_runs} {'runs' if record.key_runs == 1 else 'run'}"


def _hindrance(around: Surroundings) -> str | None:
    """What keeps all tasks of the queue from starting."""
    if around.moment.paused:
        return "the queue is paused"
    if not around.workers:
        return "no worker takes this queue"
    if not any(worker.state in _CLAIMING for worker in around.workers):
        return "every worker of this queue is draining or cordoned"
    return None


def _of_ready(record: TaskRecord, around: Surroundings) -> str:
    moment, options = around.moment, around.options
    limit = options.rate_limit
    if limit is not None and moment.tokens is not None:
        came = max(0, moment.now_ms - moment.filled_ms) * limit.tasks_per_second / 1000
        missing = 1 - min(limit.burst, moment.tokens + came)
        if missing > 0:
            ms = 1000 * missing / limit.tasks_per_second
            return f"for the rate limit of its queue: the next task may start in {span(ms)}"
    if options.concurrency and moment.running >= options.concurrency:
        return f"for the concurrency of its queue: {moment.running} of {options.concurrency} run"
    return f"{_place(record.ahead, around.line)}{_slots(around)}"


def _place(ahead: int, line: int) -> str:
    if ahead == 0:
        return "first in line"
    if ahead > 0:
        return f"in line behind {ahead} other{'s' if ahead > 1 else ''}"
    return f"in line behind {line} others or more" if line > 1 else "in line"


def _slots(around: Surroundings) -> str:
    taking = [worker for worker in around.workers if worker.state in _CLAIMING]
    slots, busy = sum(worker.slots for worker in taking), sum(worker.busy for worker in taking)
    if busy < slots:
        return ""
    return f", for a free slot: all {slots} are busy" if slots > 1 else ", for a free slot: the only one is busy"


def _key(key: str | None) -> str:
    return f"'{showing.shown(key or '', 80)}'"
