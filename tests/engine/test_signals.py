"""Requests to end a process: each counts once on whatever way it arrives, and no process is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from taskfleet.process.requests import Requests
from tests.engine.conftest import until
from tests.engine.test_processes import ledger, message
from tests.support.processes import Start, python_processes


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker") as start:
        yield start


async def workers(queue: TaskQueue) -> dict[str, int]:
    return {worker.worker_id: worker.pid for worker in await queue.broker.workers()}


async def two_that_work(queue: TaskQueue, start: Start, seconds: float) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A parent and the pids of its two child processes, each with a running task."""
    await queue.enqueue_many([message("note", n, seconds) for n in range(2)])
    parent = start("tests.engine.app:queue", "--processes", "2", "--concurrency", "1", TASKFLEET_WORKER_NAME="pod")

    async def both() -> list[int]:
        known = await workers(queue)
        return list(known.values()) if len(known) == 2 and len(await ledger(queue)) == 2 else []

    return parent, await until(both, "both run a task", seconds=60)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:  # it may also go while its state is read
        return True


async def ends(process: subprocess.Popen[bytes], seconds: float = 40.0) -> int:
    return await asyncio.to_thread(process.wait, seconds)


def to_the_parent(parent: int, children: list[int], number: int) -> None:
    os.kill(parent, number)


def to_everybody(parent: int, children: list[int], number: int) -> None:
    """Signal all processes, as systemd, Heroku and a terminal do."""
    for pid in (*children, parent):
        os.kill(pid, number)


def to_everybody_parent_first(parent: int, children: list[int], number: int) -> None:
    for pid in (parent, *children):
        os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("send", [to_the_parent, to_everybody, to_everybody_parent_first])
async def test_one_signal_is_one_request(
    shared: TaskQueue, start: Start, send: Callable[..., None], number: signal.Signals
) -> None:
    parent, children = await two_that_work(shared, start, 1.5)
    send(parent.pid, children, number)
    assert await ends(parent) == 0
    stats = await shared.queue_stats("default")
    assert (stats.finished_total, stats.in_flight, stats.failed_total) == (2, 0, 0)
    assert all(gone(pid) for pid in children)
    assert parent.stderr is not None
    assert b"second signal" not in parent.stderr.read()


@pytest.mark.parametrize("send", [to_the_parent, to_everybody])
async def test_a_second_signal_ends_all_at_once_and_loses_nothing(
    shared: TaskQueue, start: Start, send: Callable[..., None]
) -> None:
    parent, children = await two_that_work(shared, start, 60.0)
    send(parent.pid, children, signal.SIGTERM)

    async def draining() -> bool:
        return [worker.state for worker in await shared.broker.workers()] == ["draining"] * 2

    await until(draining, "both drain")
    send(parent.pid, children, signal.SIGTERM)
    assert await ends(parent) == 1  # the tasks take a minute, and the grace period half of one
    assert all(gone(pid) for pid in children)
    assert (await shared.queue_stats("default")).in_flight == 2


async def test_a_signal_and_its_echo_are_one_request(shared: TaskQueue, start: Start) -> None:
    await shared.enqueue_many([message("note", 1, 1.0)])
    worker = start("tests.engine.app:queue")
    await until(lambda: ledger(shared), "it works", seconds=60)
    worker.send_signal(signal.SIGSTOP)  # so that it hears both together, however long this test takes between them
    worker.send_signal(signal.SIGINT)  # from the terminal
    worker.send_signal(signal.SIGTERM)  # from a parent that has received the terminal's signal too
    worker.send_signal(signal.SIGCONT)
    assert await ends(worker) == 0
    assert (await shared.queue_stats("default")).finished_total == 1


async def test_one_process_that_is_ended_alone_is_started_again(shared: TaskQueue, start: Start) -> None:
    parent, children = await two_that_work(shared, start, 0.5)
    os.kill(children[0], signal.SIGTERM)

    async def another() -> bool:
        nonlocal now
        now = set((await workers(shared)).values())
        return len(now) == 2 and children[0] not in now

    now: set[int] = set()
    await until(another, "another took its place", seconds=60)
    assert children[1] in now
    parent.send_signal(signal.SIGTERM)
    assert await ends(parent) == 0


async def test_no_process_outlives_a_parent_that_was_killed(shared: TaskQueue, start: Start) -> None:
    parent, children = await two_that_work(shared, start, 1.0)
    parent.kill()
    await until(lambda: all(map(gone, children)), "they drain and end", seconds=60)
    stats = await shared.queue_stats("default")
    assert (stats.finished_total, stats.in_flight) == (2, 0)


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
            if parent == pid:
                found |= {int(folder.name)} | descendants(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3])
async def test_nor_one_that_was_killed_while_they_start(shared: TaskQueue, start: Start, moment: float) -> None:
    parent = start("tests.engine.app:queue", "--processes", "4")
    children = await until(lambda: descendants(parent.pid), "it starts them")
    await asyncio.sleep(moment)  # at several moments of the start
    children |= descendants(parent.pid)
    parent.kill()
    await until(lambda: all(map(gone, children)), "none is left", seconds=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_signal_while_the_application_is_imported_is_heard(
    start: Start, tmp_path: Path, number: signal.Signals, processes: str
) -> None:
    mark = tmp_path / "importing"
    worker = start("tests.engine.slow_app:queue", "--processes", processes, IMPORTING=str(mark))
    await until(mark.exists, "it imports", seconds=60)
    worker.send_signal(number)
    assert await ends(worker) in (0, 128 + number)  # the import takes a minute


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs a PID namespace")
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "taskfleet", "worker", "tests.engine.slow_app:queue"],
        ["-c", "from taskfleet import TaskQueueBuilder as B; B().auto_register_tasks('tests.engine.slow_app').build()"],
    ],
    ids=["worker", "all in one"],
)
async def test_also_by_the_first_process_of_a_container(shared: TaskQueue, tmp_path: Path, command: list[str]) -> None:
    mark = tmp_path / "importing"
    outer = subprocess.Popen(  # noqa: ASYNC220
        ["unshare", "--pid", "--fork", "--kill-child", sys.executable, *command],
        env=os.environ | {"IMPORTING": str(mark)},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await until(mark.exists, "it imports", seconds=60)
        (inner,) = descendants(outer.pid)
        os.kill(inner, signal.SIGTERM)
        assert await ends(outer) in (0, 143)
    finally:
        outer.kill()
        outer.wait(60)


async def test_a_signal_to_a_child_that_still_imports_ends_it(start: Start, tmp_path: Path) -> None:
    # A parent imports the application too, to check it. So the test starts the child process itself.
    from taskfleet.child_process import Child

    mark = tmp_path / "importing"
    child = Child(
        [sys.executable, "-m", "taskfleet", "worker", "tests.engine.slow_app:queue"],
        environment=os.environ | {"IMPORTING": str(mark)},
        stderr=subprocess.DEVNULL,
    )
    await until(mark.exists, "it imports", seconds=60)
    child.drain()
    await until(lambda: child.ended() is not None, "it ends")
    assert child.ended() == 0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[Requests, list[str], Clock]:
    from taskfleet.process import requests

    clock, calls = Clock(), list[str]()
    monkeypatch.setattr(requests, "time", clock)
    return Requests(lambda: calls.append("end"), lambda: calls.append("hurry")), calls, clock


async def test_an_echo_is_no_second_request(asked: tuple[Requests, list[str], Clock]) -> None:
    requests, calls, clock = asked
    requests.told()
    requests.told()
    requests.heard(signal.SIGTERM)  # from systemd, to all processes, after the parent's request through the pipe
    assert calls == ["end"]
    clock.now += 0.5
    requests.heard(signal.SIGINT)
    assert calls == ["end"]
    clock.now += 0.6
    requests.heard(signal.SIGINT)
    assert calls == ["end", "hurry"]


async def test_the_same_signal_again_is_a_second_request(asked: tuple[Requests, list[str], Clock]) -> None:
    requests, calls, _ = asked
    requests.heard(signal.SIGINT)
    requests.heard(signal.SIGINT)
    assert calls == ["end", "hurry"]
