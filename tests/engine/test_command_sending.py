"""`taskfleet enqueue`: one task with and without its result, and a task for each line of a file."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from tests.engine.conftest import RunWorker, until
from tests.engine.test_command import run
from tests.engine.test_command_queues import on_a_terminal
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

APP = ("--app", "tests.engine.app:queue")
UNTAKEN = "no worker takes queue 'default'; start one with: taskfleet worker APP"


async def test_wait_says_that_no_worker_takes_the_queue(shared: TaskQueue) -> None:
    code, out, errors = await run("enqueue", "noop", *APP, "--wait", "7")  # it is told after a second
    task_id = out.strip()
    assert code == 1
    assert errors == (
        f"taskfleet: task {task_id} waits: {UNTAKEN}\ntaskfleet: task {task_id} has no result after 7 s: {UNTAKEN}\n"
    )
    await shared.pause("default")
    _, _, errors = await run("enqueue", "noop", *APP, "--wait", "0.5")
    assert errors.endswith(" s: queue 'default' is paused; resume it with: taskfleet resume default\n")


async def test_wait_without_seconds_waits_for_a_worker_that_comes_later(
    shared: TaskQueue, run_worker: RunWorker
) -> None:
    @shared.task
    async def note(n: int) -> int:
        return 2 * n

    called = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskfleet", "enqueue", "note", "--wait", *APP, "--args", "[4]",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert called.stderr is not None
    told = (await called.stderr.readline()).decode()
    assert UNTAKEN in told
    await run_worker(shared)
    out, errors = await called.communicate()
    assert (called.returncode, errors, out.decode().splitlines()[1]) == (0, b"", "8")


async def test_a_task_that_raises_shows_its_own_traceback_then_one_line(
    shared: TaskQueue, run_worker: RunWorker
) -> None:
    @shared.task(max_retries=0)
    async def note(n: int) -> None:
        raise ValueError(f"no {n}")

    await run_worker(shared)
    code, out, errors = await run("enqueue", "note", *APP, "--args", "[4]", "--wait")
    assert code == 1
    *trace, error, line = errors.splitlines()
    assert trace[0] == "Traceback (most recent call last):"
    assert "test_command_sending.py" in trace[1]
    assert "runner.py" not in errors
    assert error == "ValueError: no 4"
    assert line == f"taskfleet: task 'note' ({out.strip()}) failed: ValueError: no 4"


async def test_redis_is_overridden_for_an_application_too(shared: TaskQueue, tmp_path: Path) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    (tmp_path / "fixed.py").write_text(
        f"from taskfleet import TaskQueue\nqueue = TaskQueue({nowhere!r})\n@queue.task\nasync def noop() -> None: ...\n"
    )
    found = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    assert (await run("enqueue", "noop", "--app", "fixed:queue", **found))[0] == 1
    code, out, errors = await run("enqueue", "noop", "--app", "fixed:queue", "--redis", shared.url, **found)
    assert code == 0, errors
    assert await shared.handle(out.strip()).status() == "ready"
    code, _, errors = await run("worker", "fixed:queue", "--burst", "--redis", shared.url, **found)
    assert code == 0, errors
    assert await shared.handle(out.strip()).status() == "succeeded"


LINES = '[1]\n{"n": 2}\n\n[\n["x"]\n"q"\n[7]'


@pytest.mark.parametrize("source", ["file", "-"])
async def test_each_line_is_a_task_and_bad_lines_are_named(shared: TaskQueue, tmp_path: Path, source: str) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text(LINES)
    named, stdin = ("-", LINES) if source == "-" else (str(file), "")
    code, out, errors = await run("enqueue", "note", *APP, "--file", named, "--queue", "bulk", stdin=stdin)
    assert (code, out) == (1, "3 sent\n")
    *bad, last = errors.splitlines()
    assert [line.split(": ")[1] for line in bad] == ["line 4", "line 5", "line 6"]
    assert "it is not JSON" in bad[0]
    assert "parameter 'n'" in bad[1]
    assert last == f"taskfleet: 3 lines of {'standard input' if source == '-' else named} not sent, 3 sent"
    assert (await shared.queue_stats("bulk")).ready == 3
    code, out, _ = await run("enqueue", "note", *APP, "--file", named, "--json", stdin=stdin)
    sent = [json.loads(line) for line in out.splitlines()]
    assert [each["line"] for each in sent] == [1, 2, 7]
    assert [await shared.handle(each["id"]).status() for each in sent] == ["ready"] * 3


async def test_many_lines_are_sent_with_a_bar_on_a_terminal(shared: TaskQueue, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_text("".join(f"[{n}]\n" for n in range(5000)))
    code, shown = await on_a_terminal("enqueue", "note", *APP, "--file", str(file))
    assert code == 0
    assert "sending" in shown
    assert shown.rstrip().endswith("5000 sent")
    assert (await shared.queue_stats("default")).ready == 5000
    code, out, errors = await run("enqueue", "note", *APP, "--file", str(file), "--delay", "60")
    assert (code, out, errors) == (0, "5000 sent\n", "")
    assert (await shared.queue_stats("default")).delayed == 5000


async def test_a_slow_pipe_is_sent_line_by_line_and_ctrl_c_says_what_was_sent(shared: TaskQueue) -> None:
    called = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "taskfleet", "enqueue", "note", *APP, "--file", "-"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert called.stdin is not None
    called.stdin.write(b"[1]\n[2]\n[3")
    called.stdin.flush()

    async def two() -> bool:
        return (await shared.queue_stats("default")).ready == 2

    await until(two, "whole lines are sent")
    called.send_signal(signal.SIGINT)
    out, errors = await asyncio.to_thread(called.communicate, timeout=60)
    assert (called.returncode, out) == (130, b"")
    # Redis may have them before the command has its answer.
    told = rb"(2 sent|0 sent; lines 1 to 2 may be sent or not|1 sent; line 2 may be sent or not); the next line is 3"
    assert re.fullmatch(b"taskfleet: aborted: " + told + b"\n", errors)


async def test_ctrl_c_before_a_prepared_call_begins_sends_nothing_more(shared: TaskQueue, tmp_path: Path) -> None:
    # The moment is too short to be met by a signal: asyncio.Runner has made the task of the call and not begun it.
    program = tmp_path / "interrupted.py"
    program.write_text(
        "import asyncio\n"
        "from taskfleet.cli import main\n"
        "class Interrupted(asyncio.Runner):\n"
        "    prepared = None\n"
        "    def run(self, call, **options):\n"
        "        if call.__name__ == '_send' and call.cr_frame.f_locals['count'].sent:\n"
        "            self.prepared = self.get_loop().create_task(call)\n"
        "            raise KeyboardInterrupt\n"
        "        return super().run(self.after_prepared(call), **options)\n"
        "    async def after_prepared(self, call):\n"
        "        if self.prepared:\n"
        "            await self.prepared\n"
        "        return await call\n"
        "asyncio.Runner = Interrupted\n"
        "main()\n",
        encoding="utf-8",
    )
    lines = tmp_path / "lines"
    lines.write_text("[1]\n" * 3000, encoding="utf-8")
    called = await asyncio.create_subprocess_exec(
        sys.executable, program, "enqueue", "note", *APP, "--file", lines,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, errors = await called.communicate()
    assert (called.returncode, out) == (130, b""), errors
    assert errors == b"taskfleet: aborted: 1000 sent; the next line is 1001\n"
    assert (await shared.queue_stats("default")).ready == 1000


async def test_redis_that_goes_away_says_what_was_sent(shared: TaskQueue) -> None:
    with RedisServer() as server:
        called = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "taskfleet", "enqueue", "note", *APP, "--file", "-", "--redis", server.url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert called.stdin is not None
        called.stdin.write(b"[1]\n")
        called.stdin.flush()
        async with TaskQueue(server.url) as there:

            async def one() -> bool:
                return (await there.queue_stats("default")).ready == 1

            await until(one, "the first line is sent")
    out, errors = await asyncio.to_thread(called.communicate, b"[2]\n[3]\n", timeout=60)
    assert (called.returncode, out, errors.count(b"\n")) == (1, b"", 1)
    assert errors.endswith(b"(1 sent; lines 2 to 3 may be sent or not; the next line is 4)\n")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["noot"], 1, "no task is named 'noot'; known: block, hold, mirror, noop, note (did you mean 'note'?)"),
        (["note", "--file", "/no/such"], 2, "--file '/no/such' cannot be read: No such file or directory"),
        (["note", "--file", "-", "--wait"], 2, "--file and --wait do not go together"),
        (["note", "--file", "-", "--args", "[1]"], 2, "--file and --args do not go together"),
        (["note", "--args", "[1]", "--queue", "two words"], 2, "queue name 'two words' is not valid"),
        (["note", "--wat"], 2, "No such option: --wat. Did you mean '--wait'?"),
    ],
)
async def test_mistakes_are_one_line(shared: TaskQueue, arguments: list[str], code: int, line: str) -> None:
    status, out, errors = await run("enqueue", *arguments, *APP)
    assert (status, out, errors.count("\n")) == (code, "", 1), errors
    assert line in errors


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_burst_ends_when_the_queues_are_empty(shared: TaskQueue, processes: str) -> None:
    code, out, _ = await run("enqueue", "note", *APP, "--file", "-", stdin="".join(f"[{n}]\n" for n in range(50)))
    assert (code, out) == (0, "50 sent\n")
    code, out, _ = await run("enqueue", "note", *APP, "--args", "[99]", "--delay", "600")
    code, _, errors = await run(
        "worker", "tests.engine.app:queue", "--burst", "--name", "one", "--processes", processes
    )
    assert code == 0, errors
    stats = await shared.queue_stats("default")
    assert (stats.ready, stats.in_flight, stats.finished_total, stats.delayed) == (0, 0, 50, 1)
    assert "burst: queue default keeps tasks for another worker: 1 delayed\n" in errors
    assert set(re.findall(r"worker (one/\d): ended", errors)) == {f"one/{n}" for n in range(int(processes))}


async def test_a_burst_waits_for_tasks_that_others_run_and_not_for_a_paused_queue(
    shared: TaskQueue, run_worker: RunWorker
) -> None:
    go_on = asyncio.Event()

    @shared.task
    async def hold() -> None:
        await go_on.wait()

    worker = await run_worker(shared)
    held = await hold.enqueue()

    async def running() -> bool:
        return await held.status() == "running"

    await until(running, "another worker runs it")
    called = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskfleet", "worker", "tests.engine.app:queue", "--burst", stderr=subprocess.PIPE
    )

    async def both() -> bool:
        return len(await shared.workers()) == 2

    await until(both, "the burst is there")
    assert called.returncode is None
    worker.drain()
    await shared.pause("default")
    await shared.broker.enqueue("default", [("stays", b"x", 0, 0, None)])
    go_on.set()
    _, errors = await called.communicate()
    assert called.returncode == 0, errors
    assert b"keeps tasks for another worker: 1 paused" in errors


async def test_a_queue_that_is_almost_one_of_the_application_is_warned_of(shared: TaskQueue) -> None:
    code, _, errors = await run("worker", "tests.engine.app:queue", "--burst", "--queues", "defualt")
    assert code == 0
    assert "no task of the application goes to queue 'defualt' (did you mean 'default'?)" in errors


async def test_the_fields_of_a_class_task_are_its_arguments(shared: TaskQueue, tmp_path: Path) -> None:
    (tmp_path / "classy.py").write_text(
        "from taskfleet import Task, TaskQueue\nqueue = TaskQueue.from_config()\n"
        "class Refund(Task):\n    order: int\n    async def execute(self) -> int:\n        return self.order * 2\n"
    )
    found = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    code, out, errors = await run("enqueue", "refund", "--app", "classy:queue", "--args", '{"order": 4}', **found)
    assert code == 0, errors
    assert (await run("worker", "classy:queue", "--burst", **found))[0] == 0
    assert await shared.handle(out.strip()).result(timeout=60) == 8
    code, _, errors = await run("enqueue", "refund", "--app", "classy:queue", "--args", '{"ordr": 4}', **found)
    assert (code, errors.count("\n")) == (1, 1)
    assert "task 'refund', field order: Field required" in errors


async def test_a_full_queue_says_which_line_is_the_next(shared: TaskQueue, tmp_path: Path) -> None:
    (tmp_path / "full.py").write_text(
        "from taskfleet import TaskQueue\n"
        "queue = TaskQueue.from_config(queues=[{'name': 'default', 'max_length': 1500}])\n"
        "@queue.task\nasync def many(n: int) -> None: ...\n"
    )
    found = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    stdin = "".join(f"[{n}]\n" for n in range(3000))
    code, out, errors = await run("enqueue", "many", "--app", "full:queue", "--file", "-", stdin=stdin, **found)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("taskfleet: queue 'default' is full: 1500 of at most 1500 tasks wait")
    assert errors.endswith(" (1500 sent; the next line is 1501)\n")


async def test_a_queue_shorter_than_a_file_is_filled_and_bad_lines_are_told_once(
    shared: TaskQueue, tmp_path: Path
) -> None:
    (tmp_path / "short.py").write_text(
        "from taskfleet import TaskQueue\n"
        "queue = TaskQueue.from_config(queues=[{'name': 'default', 'max_length': 7}])\n"
        "@queue.task\nasync def many(n: int) -> None: ...\n"
    )
    found = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    stdin = "".join("x\n" if n in (2, 5, 12) else f"[{n}]\n" for n in range(1, 31))
    code, out, errors = await run("enqueue", "many", "--app", "short:queue", "--file", "-", stdin=stdin, **found)
    assert (code, out) == (1, "")
    *bad, last = errors.splitlines()
    assert [line.split(": ")[1] for line in bad] == ["line 2", "line 5"]
    assert last.endswith("(7 sent, 2 not; the next line is 10)")
    assert [each.args for each in (await shared.list_tasks("default")).items] == [(n,) for n in (1, 3, 4, 6, 7, 8, 9)]


async def test_lines_are_utf_8(shared: TaskQueue, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    for encoding, sent in (("utf-8", 2), ("utf-8-sig", 2), ("utf-16", 0), ("utf-32-le", 0)):
        file.write_bytes("[1]\r\n[2]\n".encode(encoding))
        _, out, errors = await run("enqueue", "note", *APP, "--file", str(file))
        assert out == f"{sent} sent\n", (encoding, errors)
        if not sent:
            assert "line 1: it is not JSON" in errors


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("enqueue note --app tests.engine.app:queue --file -", "taskfleet: --file -: standard input is closed\n"),
        ("validate -", "taskfleet: standard input: is closed\n"),
    ],
)
async def test_a_closed_standard_input_is_one_line(shared: TaskQueue, command: str, line: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", f"{sys.executable} -m taskfleet {command} <&-"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)


async def test_a_wrong_app_path_and_no_redis_are_one_line(shared: TaskQueue) -> None:
    code, out, errors = await run("enqueue", "note", "--app", "tests.engine.app:quue")
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert "has no 'quue'; did you mean 'queue'?" in errors
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    code, out, errors = await run("enqueue", "noop", *APP, REDIS_URL=nowhere)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert "connection refused; start it, or set REDIS_URL" in errors
    code, out, errors = await run("enqueue", "note", *APP, "--file", "-", stdin="[1]\n[2]\n", REDIS_URL=nowhere)
    assert (code, out, errors.count("\n")) == (1, "", 1)
    assert errors.endswith("start it, or set REDIS_URL (0 sent; the next line is 1)\n")


@pytest.mark.parametrize("way", ["one", "file", "schedule"])
async def test_a_mistyped_queue_is_told_before_anything_is_sent(shared: TaskQueue, way: str) -> None:
    command, stdin = {
        "one": (["enqueue", "note", "--args", "[1]"], ""),
        "file": (["enqueue", "note", "--file", "-"], "[1]\n"),
        "schedule": (["schedules", "add", "beat", "--task", "note", "--args", "[1]", "--every", "90"], ""),
    }[way]
    code, out, errors = await run(*command, *APP, "--queue", "defualt", stdin=stdin)
    assert (code, out, errors.count("\n")) == (1, "", 1), errors
    assert "there is no queue 'defualt'; known: default (did you mean 'default'?); a new queue gets its first" in errors
    assert (await shared.broker.queues(), await shared.list_schedules()) == ([], [])
    code, _, errors = await run(*command, *APP, "--queue", "reports", stdin=stdin)  # like no other: it is new
    assert code == 0, errors
    if way != "schedule":
        code, _, errors = await run(*command, *APP, "--queue", "report", stdin=stdin)
        assert code == 1
        assert "did you mean 'reports'?" in errors
