"""The lines of the log, whatever a record holds."""

from __future__ import annotations

import contextvars
import datetime as dt
import io
import json
import logging
import logging.handlers
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet import logs, task_fields, tracing
from taskfleet.context import CURRENT, WORKER, TaskContext
from taskfleet.errors import ConfigurationError

FORMATTERS = (logs.TextLines, logs.JsonLines)


class _Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.fixture
def record_factory() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def in_a_task(call: Any) -> Any:
    """Call it as the code of a task does."""
    task = TaskContext("id-1", "send", "mail", 2, 3, dt.datetime.now(dt.UTC), None)

    def inside() -> Any:
        CURRENT.set(lambda: task)
        WORKER.set("w/0")
        return call()

    return contextvars.copy_context().run(inside)


def made(message: Any, *args: Any, extra: dict[str, Any] | None = None, error: BaseException | None = None) -> Any:
    about = (type(error), error, error.__traceback__) if error is not None else None
    return logging.getLogger("app").makeRecord("app", logging.INFO, "f.py", 1, message, args, about, "f", extra)


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%s", (_Nasty(),)), ("%d", ("x",)), ("%s %s", (1,)), (_Nasty(), ()),
        ("a\nb\r\x00\x1b\u2028\u202e\ud800", ()), ("x" * 1_000_000, ()),
    ],
    ids=["nasty", "number", "few", "message", "controls", "long"],
)  # fmt: skip
def test_any_message_is_one_bounded_line(
    formatter: type[logging.Formatter], message: Any, args: tuple[Any, ...]
) -> None:
    line = formatter().format(made(message, *args))
    assert line.isprintable()
    assert len(line) < 9000
    if formatter is logs.JsonLines:
        assert json.loads(line)["message"]


def test_a_traceback_is_a_field_of_json() -> None:
    try:
        raise ValueError("a\x1b[2Jb")
    except ValueError as error:
        line = logs.JsonLines().format(made("it failed", error=error))
    traceback = json.loads(line)["traceback"]
    assert traceback.endswith(r"ValueError: a\x1b[2Jb")
    assert traceback.count("\n") >= 2


def test_extras_are_fields_of_bounded_number_and_size() -> None:
    extra: dict[str, Any] = {f"n{n}": n for n in range(200)}
    found = json.loads(logs.JsonLines().format(made("x", extra=extra)))
    assert len(found) == 4 + 50
    extra = {
        "level": "theirs",
        "nasty": _Nasty(),
        "text": "y" * 100_000,
        "inf": float("inf"),
        "list": [1, 2],
        "no": None,
    }
    line = logs.JsonLines().format(made("x", extra=extra))
    found = json.loads(line)
    assert (found["level"], found["extra.level"], found["inf"], found["list"]) == ("INFO", "theirs", "inf", "[1, 2]")
    assert found["nasty"].startswith("it cannot be shown: RuntimeError")
    assert found["no"] is None
    assert len(line) < 5000


class _Leaves:
    def __str__(self) -> str:
        raise SystemExit(3)


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize(
    ("extra", "changes"),
    [
        ({"number": 10**5000, "other": -(10**400)}, {}), ({"leaves": _Leaves()}, {}), ({5: 3}, {}),
        ({"half": "\ud800"}, {}), ({}, {"created": 1e20}),
        ({}, {"taskfleet": {"task": None, "attempt": 10**5000, 7: b"x"}}), ({}, {"args": (_Leaves(),)}),
    ],
    ids=["digits", "leaves", "key", "half", "time", "fields", "argument"],
)  # fmt: skip
def test_a_record_that_json_or_a_clock_does_not_have_is_one_line(
    formatter: type[logging.Formatter], extra: Any, changes: dict[str, Any]
) -> None:
    record = made("the %s", "message", extra=extra)
    vars(record).update(changes)
    line = formatter().format(record)
    assert line.isprintable()
    assert len(line) < 9000
    assert "the " in line
    if formatter is logs.JsonLines:
        found = json.loads(line)
        assert all(value is None or isinstance(value, str) or abs(value) < 2**64 for value in found.values())


def test_a_traceback_that_another_handler_has_formatted_is_clean_in_text() -> None:
    try:
        raise ValueError("a\x1b[2Jb")
    except ValueError as error:
        record = made("it failed", error=error)
    logging.Formatter().format(record)  # keeps the text of the traceback in the record
    assert "\x1b" in record.exc_text
    assert "\x1b" not in logs.TextLines().format(record)


def test_names_of_tasks_cannot_forge_a_line() -> None:
    task = TaskContext("id\n1", "send\x1b[2J" + "x" * 1000, "mail", 1, 1, dt.datetime.now(dt.UTC), None)

    def inside() -> list[str]:
        CURRENT.set(lambda: task)
        return [formatter().format(made("x")) for formatter in FORMATTERS]

    for line in contextvars.copy_context().run(inside):
        assert line.isprintable()
        assert len(line) < 1000


@pytest.mark.usefixtures("record_factory")
def test_a_stamped_record_keeps_its_fields_in_another_thread() -> None:
    task_fields.stamp_records()
    factory = logging.getLogRecordFactory()
    task_fields.stamp_records()  # once is enough
    assert logging.getLogRecordFactory() is factory
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(f"{threading.current_thread().name} {logs.JsonLines().format(record)}")

    logger = logging.getLogger("app.queued")
    handler = logging.handlers.QueueHandler(waiting)
    logger.addHandler(handler)
    listener = logging.handlers.QueueListener(waiting, Keep())
    listener.start()
    try:
        in_a_task(lambda: logger.warning("hello", extra={"task": "theirs"}))
    finally:
        listener.stop()
        logger.removeHandler(handler)
    (line,) = written
    thread, brace, rest = line.partition("{")
    assert thread.strip() != threading.current_thread().name
    fields = json.loads(brace + rest)
    assert (fields["task_id"], fields["task"], fields["extra.task"]) == ("id-1", "send", "theirs")
    assert (fields["queue"], fields["attempt"], fields["worker"]) == ("mail", 2, "w/0")


SPAN = tracing.TraceSpan("a1" * 16, "b2" * 8, sampled=False)


def in_a_trace(call: Any) -> Any:
    def inside() -> Any:
        tracing.RUN.set(SPAN)
        return call()

    return contextvars.copy_context().run(inside)


def test_a_line_in_a_trace_has_its_ids_inside_and_outside_of_a_task() -> None:
    ids = {"trace_id": SPAN.trace_id, "span_id": SPAN.span_id}

    def told() -> tuple[dict[str, Any], str]:
        record = made("hello")
        return json.loads(logs.JsonLines().format(record)), logs.TextLines().format(record)

    inside, text = in_a_trace(lambda: in_a_task(told))
    assert (ids | {"task_id": "id-1", "attempt": 2}).items() <= inside.items()
    assert text.endswith(f" hello [task=send task_id=id-1 queue=mail attempt=2 worker=w/0 trace_id={SPAN.trace_id}]")
    outside, text = in_a_trace(told)
    assert ids.items() <= outside.items()
    assert "task" not in outside
    assert text.endswith(f" hello [trace_id={SPAN.trace_id}]")
    nowhere, text = told()
    assert ids.keys().isdisjoint(nowhere)
    assert text.endswith(" hello")


def test_the_lines_of_the_worker_name_a_task_in_their_words_and_in_json_as_fields() -> None:
    def record() -> Any:
        return logging.getLogger("taskfleet.worker").makeRecord(
            "taskfleet.worker", logging.ERROR, "f", 1, "send id-1 failed", (), None
        )

    assert in_a_task(lambda: logs.TextLines().format(record())).endswith(" send id-1 failed")
    assert in_a_task(lambda: json.loads(logs.JsonLines().format(record())))["task_id"] == "id-1"


@pytest.mark.usefixtures("record_factory")
def test_a_context_that_raises_costs_a_line_its_fields_and_nothing_else() -> None:
    def broken() -> Any:
        raise RuntimeError("no context")

    def inside() -> Any:
        CURRENT.set(broken)
        return logging.getLogRecordFactory()("app", logging.INFO, "f", 1, "hello", (), None)

    task_fields.stamp_records()
    record = contextvars.copy_context().run(inside)
    assert getattr(record, task_fields.ATTRIBUTE) == {}


def test_the_stack_of_a_line_is_a_field_of_it() -> None:
    record = made("here")
    record.stack_info = "Stack (most recent call last):\n  File \x1b[31m"
    assert json.loads(logs.JsonLines().format(record))["stack"].splitlines() == [
        "Stack (most recent call last):", r"  File \x1b[31m",
    ]  # fmt: skip
    assert "\x1b" not in logs.TextLines().format(record)


def test_numbers_beyond_64_bits_are_texts() -> None:
    extra = {"most": 2**64 - 1, "least": -(2**63), "above": 2**64, "below": -(2**63) - 1}
    line = json.loads(logs.JsonLines().format(made("x", extra=extra)))
    assert {name: line[name] for name in extra} == {
        "most": 2**64 - 1, "least": -(2**63), "above": str(2**64), "below": str(-(2**63) - 1),
    }  # fmt: skip


def test_the_filter_gives_attributes_and_overwrites_none() -> None:
    def line(**extra: Any) -> str:
        record = made("x", extra=extra)
        assert logs.TaskFields().filter(record)
        return logging.Formatter("%(task_id)s|%(task)s|%(queue)s|%(attempt)s|%(worker)s|%(trace_id)s").format(record)

    assert line() == "|||||"
    assert in_a_task(line) == "id-1|send|mail|2|w/0|"
    assert in_a_task(lambda: line(queue="theirs")) == "id-1|send|theirs|2|w/0|"


def test_a_processor_of_structlog_overwrites_nothing() -> None:
    assert logs.add_task_fields(None, "info", {"event": "x"}) == {"event": "x"}
    found = in_a_task(lambda: logs.add_task_fields(None, "info", {"event": "x", "queue": "theirs"}))
    assert found == {"event": "x", "task_id": "id-1", "task": "send", "queue": "theirs", "attempt": 2, "worker": "w/0"}


@pytest.mark.usefixtures("record_factory")
def test_a_later_call_changes_the_format_of_its_own_handler_only(monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = logging.getLogger(), io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.delenv(logs.FORMAT_VARIABLE, raising=False)
    monkeypatch.setenv(logs.VARIABLE, "INFO")
    logs.configure()
    theirs = logging.StreamHandler(io.StringIO())
    root.addHandler(theirs)
    monkeypatch.setenv(logs.FORMAT_VARIABLE, "json")
    try:
        logs.configure()
    finally:
        logging.captureWarnings(False)
    logging.getLogger("app").info("hello")
    assert json.loads(out.getvalue())["message"] == "hello"
    assert theirs.formatter is None
    assert len(root.handlers) == 2


_UNCAUGHT = """
import gc, threading, warnings
from taskfleet import logs
logs.configure("", "json")
warnings.warn("an odd\\nuse")

class Odd:
    def __del__(self):
        raise ValueError("of a finalizer")

def fails():
    raise ValueError("of a\\nthread")

def leaves():
    raise SystemExit(3)

for call in (fails, leaves):
    thread = threading.Thread(target=call, name="helper")
    thread.start()
    thread.join()
Odd()
gc.collect()
raise RuntimeError("of the program")
"""


def test_what_nobody_catches_is_json_too() -> None:
    done = subprocess.run([sys.executable, "-c", _UNCAUGHT], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    warning, *found = [json.loads(line) for line in done.stderr.splitlines()]
    assert (warning["level"], warning["logger"]) == ("WARNING", "py.warnings")
    assert "UserWarning: an odd" in warning["message"]
    assert [(each["level"], each["traceback"].splitlines()[-1]) for each in found] == [
        ("ERROR", "thread"), ("ERROR", "ValueError: of a finalizer"), ("CRITICAL", "RuntimeError: of the program"),
    ]  # fmt: skip
    assert found[0]["message"] == "thread helper ended with an error"


def test_an_unknown_format_is_named() -> None:
    with pytest.raises(ConfigurationError, match="--log-format: 'xml' is none of text, json"):
        logs.check_format("xml", "--log-format")
