"""Promises that every command keeps: a new command that forgets one fails here.

The commands run in this process, with the frame of the real one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from taskfleet import TaskQueue
from taskfleet.cli import app
from taskfleet.cli.queues import JSON
from taskfleet.protocol.stats import QueueStats
from tests.engine.conftest import RunWorker, until

APP = ("--app", "tests.engine.app:queue")
MANIFEST = str(Path(__file__).parents[2] / "examples" / "thumbnails" / "taskqueue.yaml")


def _commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}".strip())
        else:
            yield f"{path} {name}".strip(), command


COMMANDS: dict[str, Any] = dict(_commands(typer.main.get_command(app.build())))
# What a command needs on its line, beside the option that is tried.
REQUIRED: dict[str, tuple[str, ...]] = {
    "dev": ("tests.engine.app:queue",), "worker": ("tests.engine.app:queue",),
    "enqueue": ("note", *APP, "--args", "[1]"), "schedules add": ("nightly", "--task", "note"),
    "dead list": ("default",), "task search": ("x",), "operator": (), "keda-scaler": (), "top": (), "task list": (),
    "dashboard": (), "up": ("examples/thumbnails/taskqueue.yaml",),
}  # fmt: skip


async def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = await asyncio.to_thread(app.run, list(words))
    return code, *capsys.readouterr()


# Numbers.


def _numbers() -> list[tuple[str, str, str]]:
    """(command, option, value) of all numbers that an option cannot mean."""
    found: list[tuple[str, str, str]] = []
    for path, command in COMMANDS.items():
        for option in command.params:
            kind = option.type_descriptor.annotation
            if kind not in (int, float, int | None, float | None) or getattr(option, "hidden", False):
                continue
            given = option.type_descriptor.parameter_info
            for value in ("-1", "0", "nan", "inf", "-inf", "1e300", "9" * 30, "2.5", "", "two"):
                if not _is_meant(kind, given, value):
                    found.append((path, next(name for name in option.opts if name.startswith("--")), value))
    return found


def _is_meant(kind: Any, given: Any, value: str) -> bool:
    whole = kind in (int, int | None)
    try:
        number = int(value) if whole else float(value)
    except ValueError:
        return False
    least = -math.inf if given.min is None else given.min
    most = (10**9 if whole else 1e9) if given.max is None else given.max
    return math.isfinite(number) and least <= number <= most


NUMBERS = _numbers()


def test_all_options_that_are_numbers_are_tried() -> None:
    tried = {(path, option) for path, option, _ in NUMBERS}
    assert {("worker", "--concurrency"), ("worker", "--processes"), ("dev", "--port"), ("top", "--interval")} <= tried
    assert {("enqueue", "--delay"), ("enqueue", "--wait"), ("schedules add", "--every")} <= tried
    assert ("worker", "--concurrency", "0") in NUMBERS
    assert {path for path, _ in tried} <= REQUIRED.keys(), "name what else these commands need in REQUIRED"


@pytest.mark.parametrize(("path", "option"), sorted({(path, option) for path, option, _ in NUMBERS}))
async def test_a_number_that_makes_no_sense_is_one_line(
    shared: TaskQueue, capsys: pytest.CaptureFixture[str], path: str, option: str
) -> None:
    for value in [value for *where, value in NUMBERS if where == [path, option]]:
        if (option, value) == ("--wait", "inf"):
            continue  # waits without a limit
        also = ["--every=60"] if option == "--starting-deadline" else []
        code, out, errors = await call(capsys, *path.split(), *REQUIRED[path], *also, f"{option}={value}")
        assert (code, out, errors.count("\n")) == (2, "", 1), (value, errors)
        assert errors.startswith("taskfleet: ")
        named = option.removeprefix("--").replace("-", "_")
        assert option in errors or named in errors.replace("starting_deadline_seconds", "starting_deadline"), errors


async def test_a_schedule_that_may_not_be_late_is_not_one_without_a_deadline(
    shared: TaskQueue, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--every", "0"], ["--every", "60", "--starting-deadline", "0"]):
        code, _, errors = await call(capsys, "schedules", "add", "nightly", "--task", "note", *words)
        schedules = await shared.list_schedules()
        if code:
            assert errors.count("\n") == 1
            assert schedules == []
        else:
            assert schedules[0].starting_deadline_seconds == 0


# Names.

# Each parameter that takes the name of something in Redis, or in the application: a mistyped one, and what is meant.
TYPING_ERRORS: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("pause", "name"): (("mial",), "mail"),
    ("resume", "name"): (("mial",), "mail"),
    ("purge", "name"): (("mial", "--yes"), "mail"),
    ("dead list", "name"): (("mial",), "mail"),
    ("dead show", "name"): (("mial", "1234"), "mail"),
    ("dead show", "task_id"): (("mail", "{dead}0"), "{dead}"),
    ("dead requeue", "name"): (("mial", "--yes"), "mail"),
    ("dead requeue", "ids"): (("mail", "{dead}0"), "{dead}"),
    ("dead purge", "name"): (("mial", "--yes"), "mail"),
    ("task list", "queue"): (("--queue", "mial"), "mail"),
    ("task list", "task"): (("--task", "nightly_reprot"), "nightly_report"),
    ("task list", "state"): (("--state", "redy"), "ready"),
    ("task search", "queue"): (("x", "--queue", "mial"), "mail"),
    ("task search", "task"): (("x", "--task", "nightly_reprot"), "nightly_report"),
    ("task search", "state"): (("x", "--state", "redy"), "ready"),
    ("task show", "task_id"): (("{dead}0",), "{dead}"),
    ("task cancel", "task_id"): (("{dead}0",), "{dead}"),
    ("task retry", "task_id"): (("{dead}0",), "{dead}"),
    ("enqueue", "task"): (("noet", *APP, "--args", "[1]"), "note"),
    ("schedules run", "name"): (("nigthly",), "nightly"),
    ("schedules pause", "name"): (("nigthly",), "nightly"),
    ("schedules resume", "name"): (("nigthly",), "nightly"),
    ("schedules remove", "name"): (("nigthly", "--yes"), "nightly"),
    ("schedules add", "task"): (("x", "--task", "noet", "--every", "60", *APP), "note"),
    ("completion", "shell"): (("bsh",), "bash"),
}
# The others, each with the reason why it has no list of names to be compared with.
NEW_NAMES = {
    ("worker", "queues"): "a queue may get its first task later: the log warns of a similar name",
    ("dev", "queues"): "as of worker",
    ("worker", "name"): "a new worker",
    ("enqueue", "queue"): "a queue begins with its first task",
    ("schedules add", "name"): "a new schedule",
    ("schedules add", "queue"): "a queue begins with its first task",
}
NAMING = {"name", "queue", "queues", "task", "task_id", "ids", "state", "shell"}


def test_every_name_that_a_command_takes_is_tried_or_explained() -> None:
    taken = {(path, one.name) for path, command in COMMANDS.items() for one in command.params if one.name in NAMING}
    assert taken == TYPING_ERRORS.keys() | NEW_NAMES.keys()


async def filled(queue: TaskQueue, run_worker: RunWorker, *, name: str = "mail", task: str = "nightly_report") -> str:
    """A queue that has something of everything; returns the id of the dead letter."""

    @queue.task(name="fails", queue=name, max_retries=0)
    async def fails() -> None:
        raise ValueError("bad luck" * 20)

    @queue.task(name=task, queue=name)
    async def report(text: str) -> None: ...

    worker = await run_worker(queue, queues=[name])
    dead = await fails.enqueue()
    await until(lambda: _dead(queue, name), "one has failed")
    worker.drain()
    await until(lambda: _no_worker(queue), "it has ended")
    await report.enqueue("x" * 100)
    await report.options(delay=3600).enqueue("later")
    await queue.add_schedule(name="nightly", schedule="30 2 * * *", task=task, queue=name, args=["x"])
    return dead.id


async def _dead(queue: TaskQueue, name: str) -> bool:
    return (await queue.queue_stats(name)).dead == 1


async def _no_worker(queue: TaskQueue) -> bool:
    return not await queue.workers()


async def _counts(queue: TaskQueue) -> QueueStats:
    return dataclasses.replace(await queue.queue_stats("mail"), oldest_age_seconds=0)


async def test_a_mistyped_name_fails_and_names_a_similar_one(
    shared: TaskQueue, run_worker: RunWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = await filled(shared, run_worker)
    before = await _counts(shared)
    for (path, _), (words, meant) in TYPING_ERRORS.items():
        code, _, errors = await call(capsys, *path.split(), *(word.format(dead=dead) for word in words))
        assert code in (1, 2), (path, words, errors)
        assert errors.count("\n") == 1, (path, words, errors)
        assert f"did you mean {meant.format(dead=dead)!r}" in errors.lower(), (path, words, errors)
    assert await _counts(shared) == before, "nothing was changed"


# Listings.

LISTINGS = {
    path: command
    for path, command in COMMANDS.items()
    if any(getattr(one, "help", "") == JSON.help for one in command.params)
}
OF_LISTINGS: dict[str, tuple[str, ...]] = {
    "queues": (), "workers": (), "task list": (), "task search": ("x",), "dead list": ("QUEUE",), "schedules list": (),
    "doctor": (), "config show": (), "validate": (MANIFEST,), "top": ("--interval", "0.2"),
}  # fmt: skip
SENTENCES = {"doctor", "validate"}  # no tables: what is wrong, where and what to do, are sentences


def test_all_listings_are_known() -> None:
    assert LISTINGS.keys() == OF_LISTINGS.keys()
    others = {path for path, command in COMMANDS.items() if any("--json" in one.opts for one in command.params)}
    assert others - LISTINGS.keys() == {"enqueue", "task show", "dead show", "up", "render"}, "these print no listing"


def _times(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _times(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _times(each, key)
    elif key == "at" or key.endswith("_at"):
        yield key, value


async def test_every_listing_is_an_object_with_items_and_iso_times(
    shared: TaskQueue, run_worker: RunWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    await filled(shared, run_worker)
    await run_worker(shared, queues=["other"])
    times: set[str] = set()
    for path, words in OF_LISTINGS.items():
        given = ["mail" if word == "QUEUE" else word for word in words]
        code, out, errors = await call(capsys, *path.split(), *given, "--json")
        assert code == 0, (path, errors)
        assert out.count("\n") == 1, path
        found = json.loads(out)
        assert isinstance(found["items"], list), path
        assert found["items"], path
        for key, value in _times(found):
            if value is not None:
                assert dt.datetime.fromisoformat(value).utcoffset() == dt.timedelta(0), (path, key, value)
                times.add(key)
    assert {"at", "died_at", "enqueued_at", "due_at", "next_at", "started_at"} <= times


async def test_every_table_has_80_columns_however_long_the_names_are(
    shared: TaskQueue, run_worker: RunWorker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name, task = "queue-of-a-very-long-name." * 7, "task.of.a.very.long.name." * 8
    await filled(shared, run_worker, name=name, task=task)
    await shared.add_schedule(name="schedule-" * 25, every=60, task=task, queue=name, args=["x"])
    await run_worker(
        shared, name="a-pod-of-a-deployment-with-a-long-name-5d8f7c9b4-x2x7v", queues=["other", "another-queue-" * 15]
    )
    for path, words in OF_LISTINGS.items():
        given = [name if word == "QUEUE" else word for word in words]
        code, out, errors = await call(capsys, *path.split(), *given)
        assert code == 0, (path, errors)
        assert out, path
        if path not in SENTENCES:
            assert [line for line in out.splitlines() if len(line) > 80] == [], path
        assert "\x1b" not in out


async def test_a_reader_that_leaves_is_no_error_with_a_traceback(shared: TaskQueue, run_worker: RunWorker) -> None:
    """As `taskfleet queues | head -1`: whoever reads the output has gone before it comes."""
    await filled(shared, run_worker)
    await run_worker(shared, queues=["other"])
    for path, words in OF_LISTINGS.items():
        given = ["mail" if word == "QUEUE" else word for word in words]
        for as_json in ([], ["--json"]):
            code, errors = await asyncio.to_thread(_into_closed_pipe, [*path.split(), *given, *as_json])
            assert (code, errors) == (1, ""), (path, as_json)


def _into_closed_pipe(words: list[str]) -> tuple[int, str]:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", *words],
            stdout=writing, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    return done.returncode, done.stderr
