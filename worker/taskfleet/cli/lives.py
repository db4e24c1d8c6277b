"""How the life of a task is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskfleet.cli import listing, traces
from taskfleet.cli.listing import Column
from taskfleet.showing import shown

if TYPE_CHECKING:
    from taskfleet.inspection.task_info import AttemptError, TaskInfo

_VALUE_LIMIT = 1000  # characters of arguments and results


def listing_of(items: Sequence[TaskInfo], *, as_json: bool, cursor: str | None) -> None:
    """Print a page of tasks."""
    now = datetime.now(UTC)
    columns: list[Column[TaskInfo]] = [
        Column("id", lambda info: info.id),
        Column("state", lambda info: info.state),
        Column("queue", lambda info: info.queue, cut=True),
        Column("task", lambda info: info.task or "-", cut=True),
        Column("age", lambda info: _age(now, info.enqueued_at), right=True),
        Column("detail", _detail, cut=True),
    ]
    listing.show(items, columns, record, as_json=as_json, none="there is no such task", more={"cursor": cursor})


def record(info: TaskInfo) -> dict[str, Any]:
    """The task as it is printed in JSON."""
    return dataclasses.asdict(info)


def tell(info: TaskInfo, *, as_json: bool) -> None:
    """Print everything about one task."""
    if as_json:
        print(listing.as_text(record(info)))
        return
    attempts = f"{info.attempt} of {info.max_retries + 1}" if info.attempt and info.max_retries is not None else ""
    progress = info.progress
    listing.fields([
        ("id", info.id), ("task", info.task), ("queue", info.queue), ("state", info.state), ("waits", info.waiting),
        ("arguments", _arguments(info)), ("enqueued", _time(info.enqueued_at)), ("by", info.enqueued_by),
        ("parent", info.parent), ("due", _time(info.due_at)), ("started", _time(info.started_at)),
        ("ended", _time(info.ended_at)), ("worker", info.worker), ("lease until", _time(info.lease_expires_at)),
        ("attempt", attempts or info.attempt), ("deliveries", info.deliveries),
        ("unique key", info.unique_key), ("limit key", info.limit_key), ("fair key", info.fair_key),
        ("waits for", ", ".join(info.waits_for)),
        ("progress", "" if progress is None else f"{progress.done:g} of {progress.total:g} {progress.note}".rstrip()),
        ("result", _result(info)),
        ("reason", info.reason), ("error", info.error), ("problem", info.problem),
    ])  # fmt: skip
    for error in info.errors:
        print(_attempt(error))
    trace = info.traceback or next((each.traceback for each in reversed(info.errors) if each.traceback), "")
    if trace:
        print(traces.shown_trace(trace))


def _attempt(error: AttemptError) -> str:
    who = f" in {error.worker}" if error.worker else ""
    then = f"; again at {_time(error.retry_at)}" if error.retry_at is not None else ""
    trace = f"; trace {error.trace_id}" if error.trace_id is not None else ""
    said = f"{error.reason}: {shown(error.error, _VALUE_LIMIT)}"
    text = f"attempt {error.attempt} at {_time(error.at)}{who}: {said}{then}{trace}"
    return shown(text, 2 * _VALUE_LIMIT)


def _detail(info: TaskInfo) -> str:
    if info.waiting:
        return info.waiting
    if info.state == "running":
        return f"in {info.worker}" if info.worker else ""
    return info.error or info.reason or _result(info) or info.problem or ""


def _result(info: TaskInfo) -> str:
    unread = info.problem and info.result is None
    return _value(info.result) if info.state == "succeeded" and not unread else ""


def _arguments(info: TaskInfo) -> str:
    if info.args is None:
        return ""
    named = [f"{name}={_value(value)}" for name, value in (info.kwargs or {}).items()]
    return ", ".join([*map(_value, info.args), *named])


def _value(value: Any) -> str:
    text = listing.as_text(value)
    return text if len(text) <= _VALUE_LIMIT else f"{text[:_VALUE_LIMIT]}… ({len(text)} characters; --json has all)"


def _age(now: datetime, then: datetime | None) -> str:
    return listing.age(max(0.0, (now - then).total_seconds())) if then is not None else "-"


def _time(time: datetime | None) -> str:
    return time.isoformat(timespec="milliseconds") if time is not None else ""
