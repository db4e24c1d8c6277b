"""What the command does for a person at a terminal: completion of names, progress bars, and no password in `ps`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.test_command import run
from tests.engine.test_every_command import filled
from tests.support.processes import python_processes
from tests.support.pseudo_terminal import shown_on_a_terminal
from tests.support.redis_server import RedisServer

# A busy machine may stand still for longer than a user at a prompt is kept waiting.
PATIENT = "from taskfleet.cli import completing; completing._SECONDS = completing._CONNECT_SECONDS = 60.0; "


async def completed(line: str, before: str = PATIENT, **environment: str) -> list[str]:
    """What the shell offers at the end of this line: the answer to the variables of the completion script."""
    words = line.split(" ")
    program = before + "import sys; sys.argv = ['taskfleet']; from taskfleet.cli import main; main()"
    asked = {
        "_TASKFLEET_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), **environment,
    }  # fmt: skip

    def call() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | asked, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return await asyncio.to_thread(call)


async def test_the_shell_completes_names(shared: TaskQueue, run_worker: RunWorker) -> None:
    dead = await filled(shared, run_worker)
    assert await completed("taskfleet pause ma") == ["mail"]
    assert await completed("taskfleet dead show mail ") == [dead]
    assert dead in await completed("taskfleet task show ")
    assert await completed("taskfleet task list --task ni") == ["nightly_report"]
    assert await completed("taskfleet schedules run ") == ["nightly"]
    assert await completed("taskfleet enqueue --app tests.engine.app:queue no") == ["noop", "note"]
    assert "queues" in await completed("taskfleet que")


@pytest.mark.parametrize(
    "line",
    ["taskfleet pause --redis redis://127.0.0.1:1/0 ma", "taskfleet pause --redis nonsense ma",
     "taskfleet enqueue --app no.such:thing no"],
)  # fmt: skip
async def test_what_cannot_be_asked_completes_nothing(shared: TaskQueue, line: str) -> None:
    assert await completed(line) == []


async def test_a_redis_that_stands_still_keeps_nobody_waiting(shared: TaskQueue) -> None:
    with RedisServer() as server:
        server.pause()
        patient = {"REDIS_COMMAND_TIMEOUT": "50", "REDIS_CONNECTION_TIMEOUT": "50"}  # what it is not to wait for
        try:
            loop = asyncio.get_running_loop()
            before = loop.time()
            assert await completed("taskfleet que", before="") == ["queues"]  # asks no Redis
            alone = loop.time() - before
            before = loop.time()
            assert await completed("taskfleet pause ma", before="", REDIS_URL=server.url, **patient) == []
            # A second for Redis; the rest is the start of Python, which was measured, on a machine that may be busy.
            assert loop.time() - before < 10 + 3 * alone
        finally:
            server.go_on()


@pytest.mark.parametrize(
    ("command", "what", "last"),
    [
        ("purge", "deleting", "100 tasks deleted"),
        ("dead purge", "deleting", "100 dead letters deleted"),
        ("dead requeue", "requeuing", "100 dead letters requeued"),
    ],
)
async def test_long_work_has_a_bar_on_a_terminal_and_none_in_a_pipe(
    shared: TaskQueue, run_worker: RunWorker, command: str, what: str, last: str
) -> None:
    @shared.task(max_retries=0)
    async def fails() -> None:
        raise ValueError

    await shared.enqueue_many([fails.message() for _ in range(100)])
    if command != "purge":
        worker = await run_worker(shared)
        await until(lambda: _all_dead(shared), "all have failed")
        worker.drain()
    words = [sys.executable, "-m", "taskfleet", *command.split(), "default", "--yes"]
    code, shown = await asyncio.to_thread(shown_on_a_terminal, words)
    assert code == 0, shown
    assert re.search(rf"{what} .*0%", shown), shown
    assert shown.rstrip().endswith(last)
    code, out, errors = await run(*command.split(), "default", "--yes")
    assert (code, out.split()[0], errors) == (0, "0", "")


async def _all_dead(queue: TaskQueue) -> bool:
    return (await queue.queue_stats("default")).dead == 100


@pytest.mark.parametrize("options", [["--processes", "2"], ["--reload"]])
async def test_no_child_has_a_password_on_its_command_line(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    """Everybody on a machine sees the arguments of all processes."""
    with RedisServer("--requirepass", "s3cret") as server, python_processes("taskfleet", "worker") as start:
        url = server.url.replace("://", "://:s3cret@")
        queue = make_queue(url, redis={"key_prefix": "taskfleet"})
        process = start("tests.engine.app:queue", *options, "--redis", url)
        workers = int(options[-1]) if options[-1].isdigit() else 1
        await until(lambda: _count(queue, workers), "the workers live", seconds=60)
        lines = [line for pid, line in _command_lines() if _parent(pid) == process.pid]
        assert len(lines) >= workers
        assert [line for line in lines if "s3cret" in line] == []
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0


async def _count(queue: TaskQueue, workers: int) -> bool:
    return len(await queue.workers()) == workers


def _command_lines() -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                found.append((int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")))
    return found


def _parent(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return 0
