"""`taskfleet up`, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from taskfleet import TaskQueue, history
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.autoscaler import replay
from tests.engine.conftest import until
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]

MANIFEST = """
apiVersion: taskfleet.io/v1alpha1
kind: TaskQueue
metadata: {name: naps}
spec:
  redis: {url: "redis://redis.invalid:6379/0"}
  queues: [{name: default}]
  worker: {image: "registry.example/naps:1", app: "tests.support.sleeping_app:queue", concurrency: 2}
  autoscaler: {minReplicas: 2, maxReplicas: 2, pollIntervalSeconds: 1}
"""


SCHEDULES = """
  schedules:
  - {name: nightly, schedule: "0 3 * * *", queue: default, task: nap}
  - {name: taken, schedule: "0 3 * * *", queue: default, task: nap}
"""


@pytest.fixture
def schedules() -> str:
    """More of the manifest's spec."""
    return ""


@pytest.fixture
def up(tmp_path: Path, server: RedisServer, schedules: str) -> Iterator[subprocess.Popen[str]]:
    manifest = tmp_path / "taskqueue.yaml"
    manifest.write_text(MANIFEST + schedules)
    process = subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "up", str(manifest), "--redis", server.url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def read_until(process: subprocess.Popen[str], text: str, times: int = 1) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        times -= text in line
        if times == 0:
            return lines
    raise AssertionError(f"never said {text!r}: {lines}")


def children(pid: int, command: str = "worker") -> list[int]:
    """Its children that run this command of ours."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if f" -m taskfleet {command} " in line]


def both_workers(up: subprocess.Popen[str]) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := children(up.pid)) < 2:
        assert time.monotonic() < deadline, f"not two workers: {found}"
        time.sleep(0.05)
    return found


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_until_gone(pids: list[int], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.05)


def test_workers_start_and_ctrl_c_drains_them(up: subprocess.Popen[str]) -> None:
    read_until(up, "worker naps-worker-", times=2)
    workers = both_workers(up)
    up.send_signal(signal.SIGINT)
    rest, _ = up.communicate(timeout=60)
    assert up.returncode == 0
    assert "Traceback" not in rest
    wait_until_gone(workers, 1.0)


async def test_a_killed_worker_loses_nothing_and_the_end_says_what_is_left(
    up: subprocess.Popen[str], server: RedisServer
) -> None:
    read_until(up, " is ready after ")
    async with TaskQueue(settings=Settings(redis=RedisSettings(url=server.url))) as queue:

        @queue.task
        async def nap(seconds: float) -> float:
            return seconds

        handles = await queue.enqueue_many([nap.message(0.05) for _ in range(80)])
        os.kill(children(up.pid)[0], signal.SIGKILL)
        read_until(up, "another starts in")
        assert [await handle.result(timeout=60) for handle in handles] == [0.05] * 80
        await nap.options(delay=600).enqueue(0.1)
        up.send_signal(signal.SIGINT)
        rest, _ = up.communicate(timeout=60)
        assert up.returncode == 0
        assert "ended; left in Redis: 1 delayed in default" in rest.splitlines()[-1]
        await queue.purge("default")


async def test_its_decisions_and_the_figures_of_its_queues_are_kept(
    up: subprocess.Popen[str], server: RedisServer
) -> None:
    read_until(up, " is ready after ")
    broker = RedisBroker.from_url(server.url)
    async with TaskQueue(settings=Settings(redis=RedisSettings(url=server.url))) as queue:

        @queue.task
        async def nap(seconds: float) -> float:
            return seconds

        await (await nap.enqueue(0.01)).result(timeout=60)

        async def kept() -> bool:
            return len(await history.decisions(broker, "local/naps")) > 1

        await until(kept, "decisions are kept", seconds=60)
        found = await history.decisions(broker, "local/naps")
        assert {(one.desired, one.decided) for one in found[1:]} == {(2, 2)}
        assert [one.would for one in replay(found)] == [one.decided for one in found]
        [summary] = await history.scalers(broker)
        assert (summary.name, summary.desired) == ("local/naps", 2)

        async def recorded() -> bool:
            return bool((await history.read(broker, "default")).points)

        await until(recorded, "figures are recorded", seconds=60)
    up.send_signal(signal.SIGINT)
    rest, _ = up.communicate(timeout=60)
    assert up.returncode == 0
    assert "Traceback" not in rest
    assert not await broker.client.redis.exists(broker.fleet.recorder), "the next one records at once"
    await broker.close()


@pytest.fixture
async def taken(server: RedisServer) -> AsyncIterator[TaskQueue]:
    """A queue with a schedule that was added from Python."""
    async with TaskQueue(settings=Settings(redis=RedisSettings(url=server.url))) as queue:
        await queue.add_schedule(name="taken", schedule="@yearly", task="nap")
        yield queue
        await queue.remove_schedule("taken")


@pytest.mark.parametrize("schedules", [SCHEDULES])
async def test_the_schedules_of_the_manifest_are_there_while_it_runs(
    taken: TaskQueue, up: subprocess.Popen[str]
) -> None:
    said = read_until(up, "schedule taken is not set: there is one of that name, of no TaskQueue")
    assert any("schedule nightly of queue default is set" in line for line in said)
    assert {one.name: one.schedule for one in await taken.list_schedules()} == {
        "nightly": "0 3 * * *",
        "taken": "@yearly",
    }
    up.send_signal(signal.SIGINT)
    rest, _ = up.communicate(timeout=60)
    assert "schedule nightly of queue default is removed" in rest
    assert [one.name for one in await taken.list_schedules()] == ["taken"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
def test_workers_do_not_outlive_a_killed_parent(up: subprocess.Popen[str]) -> None:
    read_until(up, "worker naps-worker-", times=2)
    workers = both_workers(up)
    up.kill()
    wait_until_gone(workers)


def test_an_unreachable_redis_that_was_asked_for_is_one_line(tmp_path: Path) -> None:
    manifest = tmp_path / "taskqueue.yaml"
    manifest.write_text(MANIFEST)
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "up", str(manifest), "--redis", "redis://127.0.0.1:1/0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "cannot reach Redis at 127.0.0.1:1" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_signal_to_all_processes_drains_them_once(up: subprocess.Popen[str]) -> None:
    read_until(up, "worker naps-worker-", times=2)
    workers = both_workers(up)
    for pid in (*workers, up.pid):  # as systemd does
        os.kill(pid, signal.SIGTERM)
    out, _ = up.communicate(timeout=60)
    assert up.returncode == 0, out
    assert "second signal" not in out
    wait_until_gone(workers)


def run_up(folder: Path, manifest: str, *arguments: str) -> tuple[int, str, str]:
    file = folder / "taskqueue.yaml"
    file.write_text(manifest)
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "up", str(file), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_redis_that_does_not_answer_is_told_before_it_is_waited_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        code, out, errors = run_up(tmp_path, MANIFEST, "--redis", f"redis://:secret@127.0.0.1:{port}/0")
    assert code == 1
    assert f"waiting for Redis at 127.0.0.1:{port}, at most 2 s" in out
    assert errors.startswith(f"taskfleet: cannot reach Redis at 127.0.0.1:{port}: ")
    assert errors.count("\n") == 1
    assert "secret" not in out + errors


def test_json_lines_have_times_in_iso_8601(tmp_path: Path) -> None:
    code, out, _ = run_up(tmp_path, MANIFEST, "--redis", f"redis://127.0.0.1:{free_port()}/0", "--json")
    first = json.loads(out.splitlines()[0])
    assert (code, first["event"], first["text"].split(" at ")[0]) == (1, "note", "waiting for Redis")
    assert datetime.fromisoformat(first["time"]).utcoffset() is not None


def test_a_worker_that_does_not_register_is_told(tmp_path: Path, server: RedisServer) -> None:
    (tmp_path / "slow.py").write_text(
        "import sys, time\nprint('reading the model', flush=True)\nwhile True:\n    time.sleep(0.1)\n"
    )
    file = tmp_path / "taskqueue.yaml"
    file.write_text(MANIFEST.replace("tests.support.sleeping_app:queue", "slow:queue"))
    process = subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "up", str(file), "--redis", server.url],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        told = read_until(process, ": reading the model")  # the first time it may not have read anything yet
        assert re.search(r" has not registered after (5|10|20|40) s: reading the model$", told[-1].rstrip())
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def test_an_app_that_does_not_import_is_one_line(tmp_path: Path, server: RedisServer) -> None:
    manifest = MANIFEST.replace("tests.support.sleeping_app:queue", "no_such_shop:queue")
    code, out, errors = run_up(tmp_path, manifest, "--redis", server.url)
    assert code == 2
    assert "starts: it imports no_such_shop:queue" in out
    assert errors.startswith("taskfleet: the workers cannot start: APP 'no_such_shop:queue': there is no module")
    assert errors.count("\n") == 1


def test_workers_that_start_are_told(up: subprocess.Popen[str]) -> None:
    lines = read_until(up, " is ready after ")
    assert "waiting for Redis at " in lines[0]
    assert any("starts: it imports tests.support.sleeping_app:queue" in line for line in lines)
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
