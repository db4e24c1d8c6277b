"""`taskfleet task list|search|show|cancel|retry`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import Any

import pytest

from taskfleet import Retry, TaskQueue, current_task
from tests.engine.conftest import RunWorker, until
from tests.engine.test_command import run


async def items(*arguments: str) -> list[dict[str, Any]]:
    code, out, errors = await run("task", *arguments, "--json")
    assert code == 0, errors
    found: list[dict[str, Any]] = json.loads(out)["items"]
    return found


async def test_the_life_of_a_task_is_told(shared: TaskQueue, run_worker: RunWorker) -> None:
    @shared.task(max_retries=2, retry=Retry.fixed(600), limit_key="shop")
    async def charge(order: int, *, currency: str) -> None:
        raise ValueError(f"order {order} has no card")

    handle = await charge.enqueue(42, currency="eur")
    code, out, _ = await run("task", "show", handle.id)
    waiting = dict(line.split(None, 1) for line in out.splitlines())
    assert (code, waiting["state"], waiting["waits"]) == (0, "ready", "no worker takes this queue")
    assert waiting["arguments"] == '42, currency="eur"'
    assert waiting["by"] == f"{socket.gethostname()}:{os.getpid()}"
    worker = await run_worker(shared)

    async def failed_once() -> bool:
        return await handle.status() == "retrying"

    await until(failed_once, "its first attempt has failed")
    code, out, _ = await run("task", "show", handle.id)
    assert code == 0
    told = out.splitlines()
    assert "limit key   shop" in told
    assert any(line.startswith("waits       for attempt 2, in ") for line in told), out
    (attempt,) = [line for line in told if line.startswith("attempt 1 at ")]
    assert f" in {worker.identity.worker_id}: exception: ValueError: order 42 has no card; again at 20" in attempt
    assert told[-1] == "ValueError: order 42 has no card"
    assert "runner.py" not in out
    code, out, _ = await run("task", "show", handle.id, "--json")
    info = json.loads(out)
    assert (info["state"], info["args"], info["kwargs"]) == ("retrying", [42], {"currency": "eur"})
    assert (info["errors"][0]["attempt"], info["errors"][0]["reason"]) == (1, "exception")
    assert info["enqueued_at"].startswith("20")
    assert info["enqueued_at"].endswith(("Z", "+00:00"))


async def test_a_running_task_tells_its_worker_and_progress(shared: TaskQueue, run_worker: RunWorker) -> None:
    go_on = asyncio.Event()

    @shared.task
    async def copy() -> dict[str, int]:
        await current_task().progress(3, 10, "files")
        await go_on.wait()
        return {"copied": 10}

    worker = await run_worker(shared)
    handle = await copy.enqueue()
    await until(lambda: handle.progress(), "it has reported")
    _, out, _ = await run("task", "show", handle.id)
    told = dict(line.split(None, 1) for line in out.splitlines())
    assert (told["state"], told["worker"], told["progress"]) == ("running", worker.identity.worker_id, "3 of 10 files")
    assert [(each["id"], each["state"]) for each in await items("list", "--state", "running")] == [
        (handle.id, "running")
    ]
    go_on.set()
    await handle.result(timeout=60)
    _, out, _ = await run("task", "show", handle.id)
    assert 'result  {"copied": 10}' in out


async def test_tasks_are_listed_searched_and_paged(shared: TaskQueue) -> None:
    @shared.task
    async def note(text: str) -> None: ...

    handles = await shared.enqueue_many([note.message(f"apple {n}") for n in range(5)])
    other = await note.options(queue="other", delay=600).enqueue("pear")
    everything = {each["id"]: each for each in await items("list")}
    assert everything.keys() == {*(handle.id for handle in handles), other.id}
    assert everything[other.id]["waiting"].startswith("for its time, in ")
    assert [each["id"] for each in await items("list", "--queue", "other", "--task", "note")] == [other.id]
    assert [each["id"] for each in await items("list", "--state", "delayed")] == [other.id]
    assert len(await items("search", "APPLE")) == 5
    assert [each["id"] for each in await items("search", "pear")] == [other.id]
    assert [each["id"] for each in await items("search", handles[0].id)] == [handles[0].id]
    # Pages go on where the last one has ended.
    seen: list[str] = []
    cursor: list[str] = []
    for _ in range(10):
        code, out, _ = await run("task", "list", "--queue", "default", "--limit", "2", "--json", *cursor)
        page = json.loads(out)
        seen += [each["id"] for each in page["items"]]
        if page["cursor"] is None:
            break
        cursor = ["--cursor", page["cursor"]]
    assert seen == [handle.id for handle in handles]
    code, out, errors = await run("task", "list", "--limit", "2")
    assert (code, len(out.splitlines())) == (0, 3)
    assert max(map(len, out.splitlines())) <= 80
    assert errors.startswith("there are more; --limit or --cursor ")


async def test_a_dead_letter_is_retried_and_another_task_says_why_not(shared: TaskQueue, run_worker: RunWorker) -> None:
    @shared.task(max_retries=0)
    async def boom(fails: bool) -> None:
        if fails:
            raise ValueError("bad luck")

    worker = await run_worker(shared)
    failed, well = await boom.enqueue(True), await boom.enqueue(False)
    await well.result(timeout=60)

    async def dead() -> bool:
        return await failed.status() == "failed"

    await until(dead, "it has failed")
    worker.drain()
    assert await run("task", "retry", failed.id) == (0, f"task {failed.id} is back in queue 'default'\n", "")
    assert await failed.status() in {"ready", "running", "failed"}
    waiting = await boom.options(delay=600).enqueue(False)
    assert await run("task", "retry", waiting.id) == (
        1, "", f"taskfleet: task {waiting.id} is delayed and runs anyway: nothing to retry\n",
    )  # fmt: skip
    code, out, errors = await run("task", "retry", well.id)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert f"task {well.id} cannot be retried: it has ended, and the queue keeps only its result" in errors


@pytest.mark.parametrize("command", ["show", "cancel", "retry"])
async def test_a_mistyped_id_fails_with_a_similar_one(shared: TaskQueue, command: str) -> None:
    @shared.task
    async def note() -> None: ...

    handle = await note.enqueue()
    for wrong in (
        handle.id[:8],
        handle.id[:5] + handle.id[6:],
        handle.id[:-1] + ("0" if handle.id[-1] != "0" else "1"),
    ):
        code, out, errors = await run("task", command, wrong)
        assert (code, out) == (1, "")
        told = f"taskfleet: task {wrong} is not known: it never was here, was purged, or its result has expired"
        assert errors.startswith(told)
        assert errors.endswith(f" (did you mean {handle.id!r}?)\n")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["list", "--queue", "defualt"], 1, "there is no queue 'defualt'; known: default (did you mean 'default'?)"),
        (["list", "--task", "ntoe"], 1, "no task is named 'ntoe'; known: note (did you mean 'note'?)"),
        (["search", "x", "--state", "faled"], 2, "(did you mean 'failed'?)"),
        (["list", "--cursor", "nonsense"], 2, "cursor='nonsense' is no cursor"),
        (["list", "--limit", "0"], 2, "'--limit'"),
        (["search", ""], 2, "text"),
        (["shwo", "x"], 2, "Did you mean 'show'?"),
    ],
)
async def test_mistakes_are_one_line(shared: TaskQueue, arguments: list[str], code: int, line: str) -> None:
    @shared.task
    async def note() -> None: ...

    await note.enqueue()
    status, out, errors = await run("task", *arguments)
    assert (status, out, errors.count("\n")) == (code, "", 1), errors
    assert line in errors


async def test_a_task_that_is_not_there_now_is_no_mistake(shared: TaskQueue) -> None:
    assert await run("task", "list", "--task", "note") == (0, "", "there is no such task\n")
    assert await items("list", "--task", "note") == []
