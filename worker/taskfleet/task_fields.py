"""The fields that a log record has inside a task: which task, which attempt, on which worker, in which trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from taskfleet import tracing
from taskfleet.context import CURRENT, WORKER

NAMES: Final = ("task_id", "task", "queue", "attempt", "worker", "trace_id", "span_id")
ATTRIBUTE: Final = "taskfleet"  # of a log record: a dict of these fields, empty outside of a task

Fields = dict[str, "str | int"]


def of_task(task_id: str, name: str, queue: str, attempt: int, worker: str, span: tracing.TraceSpan | None) -> Fields:
    """The fields of one task. `queue` may name a partition."""
    fields: Fields = {
        "task_id": task_id, "task": name, "queue": queue.partition("/")[0], "attempt": attempt, "worker": worker,
    }  # fmt: skip
    if span is not None:
        fields["trace_id"], fields["span_id"] = span.trace_id, span.span_id
    return fields


def here() -> Fields:
    """The fields of the task that runs here; none outside of a task. A batch has the id `batch:` and its first task's.

    Outside of a task a record may still be in a trace: then it has `trace_id` and `span_id`.
    """
    make = CURRENT.get()
    span = tracing.current()
    if make is None:
        return {} if span is None else {"trace_id": span.trace_id, "span_id": span.span_id}
    # A job of this worker is read directly: its context is made for those who ask for it, and a batch has none.
    job: Any = getattr(make, "__self__", None)
    if job is not None:
        return of_task(job.id, job.definition.name, job.partition, job.attempt, WORKER.get(), span)
    task = make()
    return of_task(task.id, task.name, task.queue, task.attempt, WORKER.get(), span)


def of_record(record: logging.LogRecord) -> Fields:
    """The fields of a log record: those it was made with, or those of the task that runs here."""
    fields = getattr(record, ATTRIBUTE, None)
    return fields if isinstance(fields, dict) else here()


class TaskFields(logging.Filter):
    """A filter that gives each record the fields as attributes: `%(task_id)s`, `%(task)s`, `%(queue)s`, `%(attempt)s`,
    `%(worker)s`, `%(trace_id)s`, `%(span_id)s`; '' outside of a task.

    Add it to a handler, of which a formatter uses them. It lets every record pass, and overwrites no attribute that the
    record has from `extra`.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        fields = of_record(record)
        for name in NAMES:
            if name not in record.__dict__:
                record.__dict__[name] = fields.get(name, "")
        return True


def stamp_records() -> None:
    """Give every log record of this process the fields from the moment at which it is made, whichever thread writes it.

    `taskfleet worker` and the other commands do it. The attribute is one, so that it is in no `extra`'s way.
    """
    before = logging.getLogRecordFactory()
    if isinstance(before, _Stamping):
        return
    logging.setLogRecordFactory(_Stamping(before))


class _Stamping:
    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self._before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._before(*args, **kwargs)
        try:
            record.__dict__.setdefault(ATTRIBUTE, here())
        except Exception:  # a log line is never the reason why something fails
            record.__dict__[ATTRIBUTE] = {}
        return record


def add_task_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A processor of structlog that adds the fields, for its own events and for the records of `logging`.

    It overwrites no key that the event has.
    """
    record = event.get("_record")
    fields = of_record(record) if isinstance(record, logging.LogRecord) else here()
    for name, value in fields.items():
        event.setdefault(name, value)
    return event
