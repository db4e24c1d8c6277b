"""The `taskfleet` command: its output, its exit codes, and its one-line errors."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from taskfleet import TaskQueue
from taskfleet.version import __version__
from tests.engine import app_of_types
from tests.engine.conftest import RunWorker, until
from tests.support.ports import free_port


async def run(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
    def call() -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", *arguments],
            env=os.environ | environment,
            capture_output=True,
            input=stdin,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return await asyncio.to_thread(call)


async def test_enqueue_show_and_cancel(shared: TaskQueue, run_worker: RunWorker) -> None:
    code, out, _ = await run(
        "enqueue", "note", "--app", "tests.engine.app:queue", "--args", '{"n": 5}', "--delay", "60"
    )
    assert code == 0
    task_id = out.strip()
    code, out, _ = await run("task", "show", task_id, "--json")
    info = json.loads(out)
    assert (code, info["id"], info["queue"], info["state"]) == (0, task_id, "default", "delayed")
    assert await run("task", "cancel", task_id) == (0, "cancelled\n", "")
    assert await run("task", "cancel", task_id) == (
        1, "", f"taskfleet: nothing to cancel: task {task_id} has ended (cancelled)\n",
    )  # fmt: skip
    code, out, _ = await run("task", "show", task_id)
    assert (code, out.splitlines()[:3]) == (0, [f"id      {task_id}", "queue   default", "state   cancelled"])


async def test_enqueue_can_wait_for_the_result(shared: TaskQueue, run_worker: RunWorker) -> None:
    @shared.task
    async def note(n: int, seconds: float = 0.0) -> int:
        return n

    await run_worker(shared)
    code, out, errors = await run("enqueue", "note", "--app", "tests.engine.app:queue", "--args", "[5]", "--wait", "20")
    assert (code, out.splitlines()[1:]) == (0, ["5"]), errors


async def test_arguments_of_many_types_arrive_as_they_are_annotated(shared: TaskQueue, run_worker: RunWorker) -> None:
    shared.task(app_of_types.described)
    await run_worker(shared)
    arguments = {
        "order": {"orderId": 42, "password": "secret"},
        "when": "2026-11-25T12:00:00+05:30",
        "day": "2026-11-25",
        "price": "1.10",
        "key": "00000000-0000-0000-0000-000000000005",
        "colours": {"1": 3},
        "years": {"2025": "a"},
        "pair": [1, "b"],
        "tags": ["c"],
        "path": "/a/b",
        "code": "YWJj",
        "shout": "a",
        "anything": {"list": [1, 2.5, None, True]},
        "pause": "PT1.5S",
    }
    application = ("--app", "tests.engine.app_of_types:queue")
    for given in (arguments, list(arguments.values())):
        code, out, errors = await run("enqueue", "described", *application, "--args", json.dumps(given), "--wait", "20")
        assert code == 0, errors
        assert json.loads(out.split("\n", 1)[1]) == {
            "order": "42 secret",
            "when": "2026-11-25T12:00:00+05:30",
            "day": "'2026-11-25'",
            "price": "Decimal('1.10')",
            "key": "'00000000-0000-0000-0000-000000000005'",
            "colours": "{<Colour.RED: 1>: 3}",
            "years": "{2025: 'a'}",
            "pair": "(1, 'b')",
            "tags": "{'c'}",
            "path": "PosixPath('/a/b')",
            "code": "b'abc'",
            "shout": "'a!'",
            "anything": "{'list': [1, 2.5, None, True]}",
            "pause": "datetime.timedelta(seconds=1, microseconds=500000)",
        }
    for name, wrong in [("order", {"orderId": "x"}), ("when", "soon"), ("colours", {"9": 1}), ("pair", [1])]:
        code, _, errors = await run(
            "enqueue", "described", *application, "--args", json.dumps(arguments | {name: wrong})
        )
        assert (code, f"parameter '{name}'" in errors, errors.count("\n")) == (1, True, 1), errors


async def test_queues_and_dead_letters(shared: TaskQueue, run_worker: RunWorker) -> None:
    @shared.task(max_retries=0)
    async def boom() -> None:
        raise ValueError("bad luck")

    await run_worker(shared)
    handle = await boom.enqueue()
    await until(lambda: _dead(shared), "it is dead")
    code, out, _ = await run("queues", "--json")
    (figures,) = json.loads(out)["items"]
    assert (code, figures["name"], figures["dead"]) == (0, "default", 1)
    code, out, _ = await run("queues")
    assert out.splitlines()[0].split()[:3] == ["queue", "ready", "running"]
    code, out, _ = await run("dead", "list", "default")
    assert handle.id in out
    assert "boom  exception  ValueError: bad" in out.splitlines()[1]  # the id may leave no room for the end
    code, out, errors = await run("dead", "purge", "default")
    assert (code, out) == (1, "")
    assert errors.startswith(
        "taskfleet: Delete the dead letter of queue 'default'? Without a terminal nobody can answer"
    )
    assert (await run("dead", "purge", "default", "--yes"))[:2] == (0, "1 dead letter deleted\n")
    assert (await run("pause", "default"))[0] == 0
    assert (await shared.queue_stats("default")).paused
    assert (await run("resume", "default"))[0] == 0


async def _dead(queue: TaskQueue) -> bool:
    return (await queue.queue_stats("default")).dead == 1


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["worker"], 2, "Missing argument 'APP'"),
        (["worker", "nonsense"], 2, "write module:attribute"),
        (["worker", "no.such:queue"], 2, "there is no module 'no'"),
        (["worker", "tests.engine.app:nothing"], 2, "module 'tests.engine.app' has no 'nothing'"),
        (["worker", "tests.engine.app:note"], 2, "'note' is a TaskFunction, not a TaskQueue; did you mean 'queue'?"),
        (["worker", "tests.engine.app:queue", "--queues", "two words"], 2, "queue name 'two words' is not valid"),
        (["worker", "tests.engine.app:queue", "--queues", "a:0"], 2, "weight 0"),
        (
            ["enqueue", "nope", "--app", "tests.engine.app:queue"],
            1,
            "no task is named 'nope'; known: block, hold, mirror, noop, note",
        ),
        (["enqueue", "note", "--app", "tests.engine.app:queue", "--args", "{"], 2, "such as --args '[1, \"text\"]'"),
        (["enqueue", "note", "--app", "tests.engine.app:queue", "--args", '["x"]'], 1, "parameter 'n'"),
        (["pause", "two words"], 2, "queue name 'two words' is not valid"),
        (["worker", "tests.engine.app:queue", "--concurrency", "-1"], 2, "'--concurrency'"),
        (["worker", "tests.engine.app:queue", "--concurrency", "2.5"], 2, "'--concurrency'"),
        (["enqueue", "note", "--app", "tests.engine.app:queue", "--args", "[1]", "--delay", "nan"], 2, "'--delay'"),
        (["enqueue", "note", "--app", "tests.engine.app:queue", "--args", "[1]", "--delay", "1e18"], 2, "delay=1e+18"),
        (["enqueue", "note", "--app", "tests.engine.app:queue", "--args", "[1]", "--wait", "1e18"], 2, "--wait=1e+18"),
        (["task", "show", ""], 2, "task_id is ''; an id is a text"),
        (["quues"], 2, "No such command 'quues'"),
        (["queues", "--jsn"], 2, "--jsn"),
    ],
)
async def test_mistakes_are_one_line(shared: TaskQueue, arguments: list[str], code: int, line: str) -> None:
    status, out, errors = await run(*arguments)
    assert status == code, errors
    assert out == ""
    assert errors.startswith("taskfleet: ")
    assert errors.count("\n") == 1
    assert line in errors


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("REDIS_URL", "redis://h/x", "Redis URL: database 'x' is not a number"),
        ("REDIS_URL", "redis://u:hid@hidden@h", "percent-encode it"),
        ("REDIS_URL", "", "Redis URL: it is empty"),
        (
            "TASKFLEET_SECURITY__SIGNING_KEYS",
            " , ",
            "TASKFLEET_SECURITY__SIGNING_KEYS: security.signing_keys: it is set",
        ),
        ("TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD", "nan", "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD: "),
        ("TASKFLEET_WORKER__SHUTDOWN_GRACE_PERIOD", "1", "(did you mean 'workers'?)"),
        ("TASKFLEET_QUEUES", '[{"name": "a", "weight": 0}]', "TASKFLEET_QUEUES: queue 'a': weight=0"),
    ],
)
async def test_a_mistake_in_the_environment_is_one_line(
    shared: TaskQueue, variable: str, value: str, line: str
) -> None:
    status, out, errors = await run("worker", "tests.engine.app:queue", **{variable: value})
    assert (status, out) == (2, ""), errors
    assert errors.startswith("taskfleet: ")
    assert errors.count("\n") == 1
    assert line in errors
    assert "hidden" not in errors


async def test_redis_down_is_one_line() -> None:
    port = free_port()
    status, out, errors = await run("queues", REDIS_URL=f"redis://:secret@127.0.0.1:{port}/0")
    assert (status, out) == (1, "")
    assert errors == (
        f"taskfleet: cannot reach Redis at 127.0.0.1:{port}: connection refused; start it, or set REDIS_URL\n"
    )


async def test_the_version() -> None:
    assert await run("--version") == (0, f"taskfleet {__version__}\n", "")


async def test_schedules_are_listed_and_removed(shared: TaskQueue) -> None:
    await shared.add_schedule(name="nightly", schedule="30 2 * * *", time_zone="Europe/Berlin", task="report")
    await shared.add_schedule(name="beat", every=90, task="beat", queue="other", paused=True)
    code, out, _ = await run("schedules", "list", "--json")
    beat, nightly = json.loads(out)["items"]
    assert code == 0
    assert (beat["name"], beat["every"], beat["queue"], beat["next_at"]) == ("beat", 90, "other", None)
    assert (nightly["schedule"], nightly["time_zone"], nightly["fired_total"]) == ("30 2 * * *", "Europe/Berlin", 0)
    assert nightly["next_at"].endswith(":30:00+00:00")
    code, out, _ = await run("schedules", "list")
    assert code == 0
    heads, first, second = out.splitlines()
    assert heads.split()[:4] == ["name", "when", "zone", "task"]
    assert first.split()[:4] == ["beat", "every", "90", "s"]
    assert "paused" in first
    assert second.startswith("nightly  30 2 * * *  Europ…  report")
    assert (await run("schedules", "remove", "nightly"))[0] == 1  # it asks, and gets no answer
    assert (await run("schedules", "remove", "nightly", "--yes"))[:2] == (0, "removed\n")
    # What is not there is an error before any question.
    code, out, errors = await run("schedules", "remove", "beet")
    assert (code, out) == (1, "")
    assert errors == "taskfleet: no schedule is named 'beet'; known: beat (did you mean 'beat'?)\n"
