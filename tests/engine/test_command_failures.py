"""Failures of the command: one line, an exit code, and no traceback except that of the application's own code."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from tests.engine.conftest import until
from tests.engine.test_command import run
from tests.support.ports import free_port

LEVELS = "is none of DEBUG, INFO, WARNING, ERROR, CRITICAL"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


APP = "from taskfleet import TaskQueue\nqueue = TaskQueue()\n"


@pytest.mark.parametrize(
    ("text", "line", "trace"),
    [
        ("import no_such_thing\n", "no module 'no_such_thing' (shop.py:1)", "import no_such_thing"),
        ("1 / 0\n", "ZeroDivisionError: division by zero (shop.py:1)", "1 / 0"),
        ("def broken(:\n", "SyntaxError: invalid syntax (shop.py:1)", "def broken(:"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3 (shop.py:2)", "sys.exit(3)"),
        ("raise RuntimeError('\x1b[2J\\n')\n", "(shop.py:1)", "RuntimeError: \\x1b[2J"),
    ],
)
async def test_an_exception_of_the_application_is_shown_with_file_and_line(
    folder: Path, text: str, line: str, trace: str
) -> None:
    (folder / "shop.py").write_text(text)
    code, out, errors = await run("worker", "shop:queue")
    assert (code, out) == (2, "")
    *above, last = errors.splitlines()
    assert last.startswith("taskfleet: APP 'shop:queue': importing it failed: ")
    assert line in last
    assert any(trace in one for one in above), errors
    assert "importlib" not in errors
    assert "loading.py" not in errors
    assert "\x1b" not in errors


@pytest.mark.parametrize(
    "mistake",
    [
        "@queue.task(queue='two words')\nasync def work() -> None: ...",
        "QueueOptions('two words')",  # `dataclasses` generates its code, which has no file
        "TaskQueue('memory://', queues=[{'name': 'two words'}])",
    ],
)
async def test_a_taskfleet_error_at_import_is_one_line_with_file_and_line(folder: Path, mistake: str) -> None:
    (folder / "shop.py").write_text(APP + "from taskfleet import QueueOptions\n" + mistake + "\n")
    code, _, errors = await run("worker", "shop:queue")
    assert code == 2
    assert errors.count("\n") == 1
    assert "shop.py:4: " in errors
    assert "'two words' is not valid" in errors


@pytest.mark.parametrize(
    ("app", "near"),
    [("shop:queu", "did you mean 'queue'?"), ("shopp:queue", "did you mean 'shop'?"), ("shop:zzz", "'queue'"),
     ("pack.moduel:queue", "did you mean 'pack.module'?")],
)  # fmt: skip
async def test_a_missing_name_is_one_line_with_similar_names(folder: Path, app: str, near: str) -> None:
    (folder / "shop.py").write_text(APP)
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").touch()
    (folder / "pack" / "module.py").write_text(APP)
    code, _, errors = await run("worker", app)
    assert code == 2
    assert errors.count("\n") == 1
    assert near in errors


@pytest.mark.parametrize(
    "arguments",
    [["worker", "tests.engine.app:queue"], ["up", "nothing.yaml"], ["operator"]],
)
async def test_a_bad_log_level_is_one_line_that_lists_the_good(arguments: list[str]) -> None:
    for extra, environment in ((["--log-level", "loud"], {}), ([], {"TASKFLEET_LOG_LEVEL": "loud"})):
        code, _, errors = await run(*arguments, *extra, **environment)
        assert code == 2
        assert errors.count("\n") == 1
        assert LEVELS in errors


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_the_log_level_counts_in_every_process(shared: TaskQueue, processes: str) -> None:
    worker = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "taskfleet", "worker", "tests.engine.app:queue", "--processes", processes,
         "--log-level", "warning"],
        stderr=subprocess.PIPE,
    )  # fmt: skip

    async def running() -> bool:
        return len(await shared.broker.workers()) == int(processes)

    await until(running, "it runs")
    worker.send_signal(signal.SIGTERM)
    _, errors = await asyncio.to_thread(worker.communicate, timeout=60)
    assert worker.returncode == 0
    assert errors == b""


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["worker", "größe"], ["queues"], ["validate", "→.yaml"], ["up", "→"]]
)
async def test_a_terminal_that_knows_only_ascii(shared: TaskQueue, arguments: list[str]) -> None:
    await shared.broker.enqueue("default", [])
    _, out, errors = await run(*arguments, **ASCII)
    assert "Traceback" not in errors
    assert (out + errors).isascii()


async def _piped(*arguments: str, redirect: str, **environment: str) -> str:
    """The content of stderr when the reader of stdout has gone."""
    line = " ".join([sys.executable, "-m", "taskfleet", *arguments, redirect])
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    return done.stderr


@pytest.mark.parametrize("redirect", ["| head -c0", "2>&1 | head -c0", ">&-", "2>&-", ">/dev/full"])
@pytest.mark.parametrize("command", [["queues"], ["queues", "--json"], ["--help"], ["quues"], ["task", "list"]])
async def test_a_broken_pipe_is_no_traceback(shared: TaskQueue, command: list[str], redirect: str) -> None:
    errors = await _piped(*command, redirect=redirect)
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


async def test_ctrl_c_is_one_line_and_130() -> None:
    # No server answers there, so the command waits.
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    called = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "taskfleet", "queues"],
        env=os.environ
        | {"REDIS_URL": f"redis://127.0.0.1:{port}", "REDIS_COMMAND_TIMEOUT": "60", "REDIS_CONNECTION_TIMEOUT": "60"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with silent:
        await until(lambda: _has_peer(port), "it waits for Redis")
        called.send_signal(signal.SIGINT)
        out, errors = await asyncio.to_thread(called.communicate, timeout=60)
    assert (called.returncode, out) == (130, b"")
    assert errors.strip() == b"taskfleet: aborted"


def _has_peer(port: int) -> bool:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(f":{port:04X} " in line.split(maxsplit=3)[2] + " " and " 01 " in line for line in lines)


async def test_an_application_without_its_redis_is_one_line(shared: TaskQueue) -> None:
    code, out, errors = await run("dead", "list", "default", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert (code, out, errors.count("\n")) == (1, "", 1)
