"""`taskfleet queues`, `purge`, `dead`, `workers`: their listings, their questions, and names that are not there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from datetime import datetime

import pytest

from taskfleet import TaskQueue
from taskfleet.version import __version__
from tests.engine.conftest import RunWorker, until
from tests.engine.test_command import run
from tests.support.ports import free_port
from tests.support.pseudo_terminal import shown_on_a_terminal


async def dead(shared: TaskQueue, run_worker: RunWorker, number: int, text: str = "bad luck") -> list[str]:
    @shared.task(max_retries=0)
    async def boom(n: int) -> None:
        raise ValueError(text)

    await run_worker(shared)
    handles = await shared.enqueue_many([boom.message(n) for n in range(number)])

    async def all_dead() -> bool:
        return (await shared.queue_stats("default")).dead == number

    await until(all_dead, "they are dead")
    return [handle.id for handle in handles]


async def on_a_terminal(*arguments: str, answer: str = "") -> tuple[int, str]:
    """Run the command in a terminal, and answer its question; (exit code, all that it shows)."""
    command = [sys.executable, "-m", "taskfleet", *arguments]
    return await asyncio.to_thread(shown_on_a_terminal, command, keys=answer, after="[y/N]" if answer else "")


async def test_redis_is_given_before_or_after_the_command(shared: TaskQueue) -> None:
    await shared.broker.enqueue("default", [])
    nowhere = {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    assert (await run("queues", **nowhere))[0] == 1
    for arguments in (["--redis", shared.url, "queues"], ["queues", "--redis", shared.url]):
        code, out, errors = await run(*arguments, **nowhere)
        assert (code, out.split()[:1]) == (0, ["queue"]), errors
    _, _, errors = await run("queues", "--redis", nowhere["REDIS_URL"])
    assert errors.endswith(": connection refused; start it, or give another --redis\n")
    assert (await run("queues", "--redis", "http://x"))[0] == 2
    assert await run("--redis", shared.url, "completion", "bash") == (
        2, "", "taskfleet: Invalid value: `taskfleet completion` uses no Redis: leave out --redis. Try --help.\n",
    )  # fmt: skip


async def test_a_table_fits_80_columns_and_marks_what_it_cuts(shared: TaskQueue, run_worker: RunWorker) -> None:
    ids = await dead(shared, run_worker, 2, "bad luck " * 20)
    code, out, _ = await run("dead", "list", "default")
    head, *rows = out.splitlines()
    assert code == 0
    assert head.split() == ["id", "died", "(UTC)", "task", "reason", "error"]
    assert [row.split()[0] for row in rows] == ids  # whole
    assert all(len(row) <= 80 and row.endswith("…") for row in rows)
    assert "\x1b" not in out
    _, out, _ = await run("dead", "list", "default", COLUMNS="400")
    assert "ValueError: " + "bad luck " * 20 in out.replace("\n", " ")
    _, out, _ = await run("dead", "list", "default", PYTHONIOENCODING="ascii")
    assert all(len(row) <= 80 and row.endswith("...") for row in out.splitlines()[1:])
    code, shown = await on_a_terminal("dead", "list", "default")
    assert code == 0
    assert shown.startswith("\x1b[1m")  # bold heads
    assert "…" in shown


async def test_every_listing_is_an_object_with_items_and_iso_times(shared: TaskQueue, run_worker: RunWorker) -> None:
    await dead(shared, run_worker, 1)
    await shared.add_schedule(name="nightly", schedule="@daily", task="report")
    for arguments, time in [
        (["queues"], ""), (["workers"], "started_at"), (["dead", "list", "default"], "died_at"),
        (["schedules", "list"], "next_at"), (["config", "show"], ""),
    ]:  # fmt: skip
        code, out, errors = await run(*arguments, "--json")
        assert (code, errors) == (0, "")
        record = json.loads(out)
        assert list(record) == ["items"]
        assert record["items"]
        if time:
            assert datetime.fromisoformat(record["items"][0][time]).utcoffset() is not None


async def test_an_empty_listing_says_so_on_stderr(shared: TaskQueue) -> None:
    assert await run("queues") == (0, "", "no queue has had a task yet\n")
    assert await run("workers") == (0, "", "no worker lives; start one with: taskfleet worker APP\n")
    assert await run("workers", "--json") == (0, '{"items": []}\n', "")


async def test_workers_are_listed(shared: TaskQueue, run_worker: RunWorker) -> None:
    @shared.task
    async def nap() -> None:
        await asyncio.sleep(600)

    worker = await run_worker(shared, name="one")
    handle = await nap.enqueue()

    async def busy() -> bool:
        return [(each.busy, each.oldest_run_seconds > 0) for each in await shared.workers()] == [(1, True)]

    await until(busy, "it runs the task")
    await shared.broker.cordon("one", ttl_seconds=600)
    await until(lambda: worker.health.cordoned, "it is cordoned")

    async def told() -> bool:
        return (await shared.workers())[0].state == "cordoned"

    await until(told, "its heartbeat says so")
    _, out, _ = await run("workers", "--json")
    (one,) = json.loads(out)["items"]
    assert (one["id"], one["name"], one["host"], one["pid"]) == ("one/0", "one", socket.gethostname(), os.getpid())
    assert (one["queues"], one["slots"], one["busy"], one["version"]) == (["default"], 8, 1, __version__)
    assert (one["state"], one["cordoned"]) == ("cordoned", True)
    assert one["heartbeat_age_seconds"] < 60 > one["oldest_run_seconds"] > 0
    _, out, _ = await run("workers")
    head, row = out.splitlines()
    assert head.split() == ["worker", "host", "queues", "busy", "oldest", "version", "beat", "state"]
    assert row.split()[0] == "one/0"
    assert "1/8" in row
    assert len(row) <= 80
    await handle.cancel()


@pytest.mark.parametrize(
    "arguments",
    [
        ["pause", "defualt"], ["resume", "defualt"], ["purge", "defualt", "--yes"], ["dead", "list", "defualt"],
        ["dead", "show", "defualt", "x"], ["dead", "requeue", "defualt", "--yes"],
        ["dead", "purge", "defualt", "--yes"],
    ],
)  # fmt: skip
async def test_a_mistyped_queue_fails_with_a_similar_name(shared: TaskQueue, arguments: list[str]) -> None:
    await shared.broker.enqueue("default", [])
    await shared.broker.enqueue("mail", [])
    assert await run(*arguments) == (
        1, "", "taskfleet: there is no queue 'defualt'; known: default, mail (did you mean 'default'?)\n",
    )  # fmt: skip


async def test_a_queue_that_only_a_worker_serves_can_be_paused(shared: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(shared, queues=["fresh"])
    assert await run("pause", "fresh") == (0, "queue 'fresh' is paused\n", "")
    assert (await shared.queue_stats("fresh")).paused


async def test_purge_asks_and_deletes_what_waits(shared: TaskQueue) -> None:
    @shared.task
    async def wait_for_it() -> None: ...

    await shared.enqueue_many([wait_for_it.message(), wait_for_it.message()])
    await wait_for_it.options(delay=600).enqueue()
    code, _, errors = await run("purge", "default")
    assert code == 1
    assert errors.startswith("taskfleet: Delete 3 tasks waiting in queue 'default'? Without a terminal nobody can ")
    assert errors.endswith("; say yes with --yes\n")
    code, shown = await on_a_terminal("purge", "default", answer="n\n")
    assert code == 1
    assert shown.rstrip().endswith("taskfleet: aborted")
    for keys, code in (("\x03", 130), ("\x04", 1)):  # Ctrl-C, and the end of the input
        assert (await on_a_terminal("purge", "default", answer=keys))[0] == code
    assert (await shared.queue_stats("default")).ready == 2
    code, shown = await on_a_terminal("purge", "default", answer="y\n")
    assert code == 0
    assert shown.rstrip().endswith("3 tasks deleted")
    assert await run("purge", "default") == (0, "0 tasks deleted\n", "")  # nothing to ask


async def test_one_dead_letter_is_shown_whole(shared: TaskQueue, run_worker: RunWorker) -> None:
    (task_id,) = await dead(shared, run_worker, 1)
    code, out, _ = await run("dead", "show", "default", task_id)
    assert code == 0
    fields = dict(line.split("  ", 1) for line in out.splitlines() if "  " in line.lstrip())
    assert fields["id"].strip() == task_id
    assert "ValueError: bad luck" in out.splitlines()[-1]
    assert "in boom" in out
    assert "runner.py" not in out  # the worker's own frames
    code, out, _ = await run("dead", "show", "default", task_id, "--json")
    letter = json.loads(out)
    assert (letter["id"], letter["queue"], letter["task"], letter["attempts"]) == (task_id, "default", "boom", 1)
    code, out, errors = await run("dead", "show", "default", task_id[:-1] + "x")
    assert (code, out) == (1, "")
    assert errors.endswith(f"(did you mean {task_id!r}?)\n")


async def test_requeue_of_all_asks_and_of_some_names_the_missing(shared: TaskQueue, run_worker: RunWorker) -> None:
    ids = await dead(shared, run_worker, 3)
    await shared.pause("default")
    code, _, errors = await run("dead", "requeue", "default")
    assert code == 1
    assert "Requeue all 3 dead letters of queue 'default'? Without a terminal" in errors
    code, out, errors = await run("dead", "requeue", "default", ids[0], "nope", ids[0])
    assert (code, out, errors.count("\n")) == (1, "1 dead letter requeued\n", 1)
    assert "queue 'default' has no dead letter 'nope'" in errors
    assert await run("dead", "requeue", "default", "--yes") == (0, "2 dead letters requeued\n", "")
    assert (await shared.queue_stats("default")).ready == 3


async def test_more_dead_letters_than_are_listed_are_told(shared: TaskQueue, run_worker: RunWorker) -> None:
    await dead(shared, run_worker, 3)
    code, out, errors = await run("dead", "list", "default", "--limit", "2")
    assert (code, len(out.splitlines())) == (0, 3)
    assert errors == "2 of 3 dead letters; --limit gives more\n"
