"""Lines of the log of real workers: their form, the fields of the task, and what is in none of them."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import datetime as dt
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from taskfleet import TaskQueue
from taskfleet.context import CURRENT, WORKER, TaskContext
from taskfleet.logs import add_task_fields
from tests.engine import log_app
from tests.engine.conftest import MakeQueue
from tests.support.redis_server import RedisServer

SINGLE = ("on_the_loop", "in_a_thread", "in_a_process", "with_extra", "hostile", "fails")


def taskfleet(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskfleet", *arguments], capture_output=True, text=True, timeout=110, check=False,
        env=os.environ | variables, encoding="utf-8",
    )  # fmt: skip


async def enqueued(queue: TaskQueue, names: tuple[str, ...] = SINGLE) -> dict[str, str]:
    """One task of each name is in the queue; (id by name)."""
    ids: dict[str, str] = {}
    for name in names:
        message = getattr(log_app, name).message(name)
        ids[name] = (await queue.send(message)).id
    return ids


async def worker_log(*options: str, **variables: str) -> list[str]:
    """The lines of a worker that has emptied the queues."""
    arguments = ("worker", "tests.engine.log_app:queue", "--burst", "--name", "w1", *options)
    done = await asyncio.to_thread(taskfleet, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("way", ["option", "variable"])
async def test_json_lines_have_the_fields_of_the_task_that_logs(shared: TaskQueue, way: str) -> None:
    ids = await enqueued(shared)
    lines = (
        await worker_log("--log-format", "json") if way == "option" else await worker_log(TASKFLEET_LOG_FORMAT="JSON")
    )
    records = [json.loads(line) for line in lines]  # each line is one object
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in records)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"]) for record in records)
    assert all(line.isascii() for line in lines)
    said = [record for record in records if record["logger"] == "app"]
    assert len(said) == 8
    for record in said:
        name = record["task"]
        about = {key: record[key] for key in ("task_id", "queue", "attempt", "worker")}
        assert about == {"task_id": ids[name], "queue": "default", "attempt": 1, "worker": "w1/0"}
    (extra,) = [record for record in said if record["task"] == "with_extra"]
    assert (extra["extra.queue"], extra["extra.task_id"], extra["order"], extra["half"]) == (
        "theirs",
        "theirs",
        7,
        "nan",
    )
    first, second = [record["message"] for record in said if record["task"] == "hostile"]
    assert first == r"begin hostile\n2026-01-01 ERROR forged\x1b[31m \u202e \ud800 [task=other] é"
    assert second.startswith("%d of %s (its arguments cannot be put into it: TypeError")
    (failure,) = [record for record in records if record["level"] == "ERROR"]
    assert (failure["task"], failure["task_id"], failure["worker"]) == ("fails", ids["fails"], "w1/0")
    assert failure["traceback"].startswith("Traceback (most recent call last):\n")
    others = [record for record in records if record["logger"] != "app" and record is not failure]
    assert others
    assert all("task_id" not in record for record in others)


async def test_text_lines_end_with_the_fields_of_the_task_that_logs(shared: TaskQueue) -> None:
    ids = await enqueued(shared)
    lines = await worker_log()
    said = [line for line in lines if " app " in line]
    assert len(said) == 8
    for line in said:
        found = re.search(r" \[task=(\w+) task_id=(\w+) queue=default attempt=1 worker=w1/0\]$", line)
        assert found is not None, line
        assert ids[found[1]] == found[2]
    forged = [line for line in lines if line.startswith("2026-01-01")]
    assert forged == []
    assert not any("\x1b" in line or "\u202e" in line for line in lines)


async def test_a_batch_logs_as_itself(shared: TaskQueue) -> None:
    first = await shared.send(log_app.in_a_batch.message("a"))
    await shared.send(log_app.in_a_batch.message("b"))
    (record,) = [json.loads(line) for line in await worker_log("--log-format", "json") if '"app"' in line]
    assert (record["task"], record["task_id"], record["queue"]) == ("in_a_batch", f"batch:{first.id}", "default")


async def test_handlers_of_the_application_have_the_fields_too(shared: TaskQueue) -> None:
    ids = await enqueued(shared, ("on_the_loop", "in_a_thread", "in_a_process", "with_extra"))
    form = "%(name)s|%(task_id)s|%(task)s|%(queue)s|%(attempt)s|%(worker)s|%(trace_id)s|%(message)s"
    lines = await worker_log(LOG_APP_FORMAT=form)
    said = {line for line in lines if line.startswith("app|")}
    for name in ("on_the_loop", "in_a_thread", "in_a_process"):
        assert f"app|{ids[name]}|{name}|default|1|w1/0||begin {name}" in said
    # What the application itself names stays.
    assert "app|theirs|with_extra|theirs|1|w1/0||begin with_extra" in said
    assert any(line.startswith("taskfleet.worker|||||||") for line in lines)


async def test_several_processes_and_an_unknown_format(shared: TaskQueue) -> None:
    await enqueued(shared)
    lines = await worker_log("--log-format", "json", "--processes", "2")
    workers = {json.loads(line).get("worker") for line in lines}
    assert workers <= {None, "w1/0", "w1/1"}
    assert len(workers) > 1
    done = await asyncio.to_thread(taskfleet, "worker", "tests.engine.log_app:queue", "--log-format", "xml")
    assert (done.returncode, done.stderr) == (2, "taskfleet: --log-format: 'xml' is none of text, json\n")
    done = await asyncio.to_thread(taskfleet, "queues", TASKFLEET_LOG_FORMAT="xml")
    assert (done.returncode, done.stderr) == (2, "taskfleet: TASKFLEET_LOG_FORMAT: 'xml' is none of text, json\n")


async def test_nothing_per_task_is_logged_above_debug_but_failures(shared: TaskQueue) -> None:
    await shared.enqueue_many([log_app.secretive.message({"n": str(n)}) for n in range(200)])
    records = [json.loads(line) for line in await worker_log("--log-format", "json")]
    ours = [record for record in records if record["logger"].startswith("taskfleet")]
    assert len(ours) < 10
    assert len([record for record in records if record["logger"] == "app"]) == 200


SECRETS = {
    "login": "planted-login-4f1", "signing": "planted-signing-key-77aa", "argument": "planted-argument-90c",
    "header": "planted-header-8d2", "unique": "planted-unique-key-3e3", "wrong": "planted-wrong-login-5b5",
}  # fmt: skip
ENCRYPTION = base64.b64encode(b"planted-encryption-key-of-32-by.").decode()


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_secret_of_a_setting_or_a_payload_is_in_any_output(
    form: str, make_queue: MakeQueue, tmp_path: Path
) -> None:
    with RedisServer("--requirepass", SECRETS["login"]) as server:
        url = f"redis://:{SECRETS['login']}@{server.address}/0"
        variables = {
            "REDIS_URL": url, "TASKFLEET_LOG_FORMAT": form, "TASKFLEET_LOG_LEVEL": "DEBUG",
            "TASKFLEET_SECURITY__SIGNING_KEYS": SECRETS["signing"], "TASKFLEET_SECURITY__ENCRYPTION_KEYS": ENCRYPTION,
        }  # fmt: skip
        program = tmp_path / "send.py"
        program.write_text(SEND, encoding="utf-8")
        output = [
            subprocess.run(  # noqa: ASYNC221 - nothing else is to be done meanwhile
                [sys.executable, str(program), json.dumps(SECRETS)], capture_output=True, text=True, check=True,
                env=_environment(variables),
            )
        ]  # fmt: skip
        worker = ("worker", "tests.engine.log_app:queue", "--burst", "--processes", "2")
        wrong = {"REDIS_URL": url.replace(SECRETS["login"], SECRETS["wrong"])}
        commands: list[tuple[tuple[str, ...], dict[str, str]]] = [
            (worker, {}), (("queues",), {}), (("config", "show"), {}), (("dead", "list", "default"), {}),
            (("doctor",), {}), (worker, {"TASKFLEET_SECURITY__SEALING": "x"}),
            (("queues",), wrong), (("doctor",), wrong),
        ]  # fmt: skip
        for command, more in commands:
            output.append(await asyncio.to_thread(taskfleet, *command, **(variables | more)))
    output.append(await asyncio.to_thread(taskfleet, "queues", **variables))  # Redis is gone
    said = "\n".join(each.stdout + each.stderr for each in output)
    assert "begin " in said, "the tasks ran"
    assert "RuntimeError: no luck" in said, "a failure was logged"
    found = {name for name, secret in {**SECRETS, "encryption": ENCRYPTION}.items() if secret in said}
    assert found == set(), said


SEND = """
import asyncio, json, sys
from taskfleet import Middleware
from tests.engine import log_app

secrets = json.loads(sys.argv[1])
payload = {"card": secrets["argument"]}


class Headers(Middleware):
    async def enqueue(self, messages, call_next):
        for message in messages:
            message.headers["token"] = secrets["header"]
        await call_next()


async def main():
    log_app.queue.add_middleware(Headers())
    async with log_app.queue as queue:
        for task in (log_app.secretive, log_app.secretive_process, log_app.secretive_failure):
            await task.options(unique_key=secrets["unique"] + task.name).enqueue(payload)
        await queue.add_schedule(name="nightly", task=log_app.secretive, schedule="@daily", args=[payload])


asyncio.run(main())
"""


def _environment(variables: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables}


def test_a_program_of_ones_own_uses_the_fields_with_structlog() -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[add_task_fields],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )

    def inside() -> dict[str, Any]:
        task = TaskContext("id-1", "send", "mail/3", 2, 1, dt.datetime.now(dt.UTC), None)
        CURRENT.set(lambda: task)
        WORKER.set("w/0")
        record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "hello", (), None)
        return dict(json.loads(formatter.format(record)))

    assert contextvars.copy_context().run(inside) == {
        "event": "hello", "task_id": "id-1", "task": "send", "queue": "mail", "attempt": 2, "worker": "w/0",
    }  # fmt: skip
