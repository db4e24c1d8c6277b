"""Tasks: rows, one in full, and its life."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from inspect import Parameter
from typing import Any

from taskfleet.application import Application
from taskfleet.inspection import listing
from taskfleet.inspection.task_info import AttemptError, TaskInfo
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.tasks import AttemptRow, LifeEvent, ProgressRow, TaskAnswer, TaskRow
from taskfleet_dashboard.masking import Masks

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class TaskText:
    """Makes rows and pages of tasks, masked, and of text alone."""

    def __init__(self, application: Application, masks: Masks) -> None:
        self._application = application
        self._masks = masks

    def masked(self, info: TaskInfo) -> tuple[TaskInfo, list[str]]:
        """The task without what nobody may see, and the names of the fields that were masked."""
        definition = self._application.find_task(info.task) if info.task is not None else None
        if definition is None:
            return self._masks.of_task(info)
        named = {each.name: each.kind for each in definition.signature.parameters}
        rest, others = (
            next((name for name, kind in named.items() if kind is wanted), "")
            for wanted in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        )
        by_position = [name for name, kind in named.items() if kind in _BY_POSITION]
        taken = {key: others for key in info.kwargs or {} if key not in named}
        return self._masks.of_task(info, by_position, rest=rest, others=taken)

    def row(self, info: TaskInfo) -> TaskRow:
        """One row."""
        return TaskRow(**_row(self.masked(info)[0]))

    def answer(self, info: TaskInfo) -> TaskAnswer:
        """One task in full."""
        shown, masked = self.masked(info)
        return TaskAnswer(
            **_row(shown),
            args=None if shown.args is None else text.json_text(list(shown.args)),
            kwargs=None if shown.kwargs is None else text.json_text(shown.kwargs),
            result=text.json_text(shown.result) if shown.state == "succeeded" and not shown.problem else None,
            enqueued_by=text.line_or_none(shown.enqueued_by),
            parent=text.name(shown.parent),
            lease_expires_at=shown.lease_expires_at,
            deliveries=shown.deliveries,
            max_retries=shown.max_retries,
            waits_for=[text.whole(each) for each in shown.waits_for],
            errors=[attempt(each) for each in shown.errors],
            progress=_progress(shown),
            traceback=None if shown.traceback is None else text.lines(shown.traceback),
            reason=text.line_or_none(shown.reason),
            problem=text.line_or_none(shown.problem),
            life=life(shown),
            masked=masked,
        )

    def matcher(self, q: str, key: str) -> Callable[[TaskInfo], bool]:
        """Whether a task has the text `q` in what is shown of it, and `key` as one of its keys.

        What is masked is not searched: an answer would tell it letter by letter.
        """

        def matches(info: TaskInfo) -> bool:
            if key and key not in (info.unique_key, info.limit_key, info.fair_key):
                return False
            return not q or listing.has_text(self.masked(info)[0], q)

        return matches


def _row(info: TaskInfo) -> dict[str, Any]:
    error = info.error or (info.errors[-1].error if info.errors else None)
    return {
        "id": text.name(info.id), "task": text.name(info.task), "queue": info.queue, "state": text.line(info.state),
        "enqueued_at": info.enqueued_at, "due_at": info.due_at, "started_at": info.started_at,
        "ended_at": info.ended_at, "worker": text.line_or_none(info.worker), "attempt": info.attempt,
        "unique_key": text.name(info.unique_key), "limit_key": text.name(info.limit_key),
        "fair_key": text.name(info.fair_key), "waiting": text.line_or_none(info.waiting),
        "error": text.line_or_none(error),
    }  # fmt: skip


def attempt(error: AttemptError) -> AttemptRow:
    """How one attempt ended."""
    return AttemptRow(
        attempt=error.attempt,
        at=error.at,
        worker=text.line_or_none(error.worker),
        reason=text.line(error.reason),
        error=text.line(error.error),
        traceback=text.lines(error.traceback),
        retry_at=error.retry_at,
        trace_id=error.trace_id,
    )


def _progress(info: TaskInfo) -> ProgressRow | None:
    told = info.progress
    if told is None:
        return None
    return ProgressRow(done=told.done, total=told.total, fraction=told.fraction, note=text.line(told.note), at=told.at)


def life(info: TaskInfo) -> list[LifeEvent]:
    """What has happened to a task, the oldest first, as far as it is kept. Nothing is written for this view."""
    events: list[LifeEvent] = []

    def add(what: str, at: datetime | None, detail: str = "", worker: str | None = None, n: int | None = None) -> None:
        shown = text.line_or_none(worker)
        events.append(LifeEvent(at=at, what=what, detail=text.line(detail), worker=shown, attempt=n))

    if info.enqueued_at is not None:
        by = f"by {info.enqueued_by}" if info.enqueued_by else ""
        add("enqueued", info.enqueued_at, f"{by} for task {info.parent}".strip() if info.parent else by)
    last = info.errors[-1] if info.errors else None
    for error in info.errors:
        if error is last and info.ended_at is not None and error.retry_at is None:
            continue  # it is the end
        add("attempt failed", error.at, f"{error.reason}: {error.error}", error.worker, error.attempt)
        if error.retry_at is not None:
            add("retry due", error.retry_at, "", None, error.attempt + 1)
    if info.state == "running":
        add(
            "claimed",
            info.started_at,
            f"delivery {info.deliveries}" if info.deliveries else "",
            info.worker,
            info.attempt,
        )
    elif info.due_at is not None and not (last is not None and last.retry_at == info.due_at):
        add("due", info.due_at)
    if info.progress is not None:
        told = info.progress
        share = f"{told.fraction:.0%}" if told.fraction is not None else f"{told.done:g}"
        add("progress", told.at, f"{share} {told.note}".strip(), info.worker, info.attempt)
    if info.waiting:
        add("waiting", None, info.waiting)
    if info.state in ("succeeded", "failed", "dead", "cancelled", "expired"):
        why = f"{info.state}: {info.error}" if info.error else info.state
        add("ended", info.ended_at, why, info.worker, info.attempt)
    # What has no time of its own stays behind what came before it.
    times: list[float] = []
    for each in events:
        times.append(each.at.timestamp() if each.at is not None else (times[-1] if times else 0.0))
    return [each for _, each in sorted(zip(times, events, strict=True), key=lambda pair: pair[0])]
