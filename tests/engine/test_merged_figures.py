"""`taskfleet worker --processes N --probe-port`: one port shows the figures and the health of all processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskfleet import TaskQueue
from tests.engine import app
from tests.engine.conftest import until
from tests.engine.test_processes import _answers, _probe, finished, message
from tests.support.ports import free_port
from tests.support.processes import Start, python_processes


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker", "tests.engine.app:queue") as start:
        yield start


async def figures(port: int) -> dict[str, float]:
    """The sums of all samples by name."""
    status, text = await _probe(port, "/metrics")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text) if status == 200 else ():
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


async def test_processes_are_merged_on_one_port_also_when_one_is_killed(shared: TaskQueue, start: Start) -> None:
    port = free_port()
    parent = start(
        "--processes", "2", "--concurrency", "2", "--probe-port", str(port), "--probe-host", "127.0.0.1",
        TASKFLEET_WORKER_NAME="pod",
    )  # fmt: skip
    await until(lambda: _answers(port, "/readyz", 200), "both are ready", seconds=60)
    await shared.enqueue_many([message("note", n, 0.02) for n in range(40)])
    await until(lambda: finished(shared, 40), "all have ended")

    async def counted(least: float) -> dict[str, float]:
        found = await figures(port)
        names = "tasks_total", "task_wait_seconds_count", "task_run_seconds_count"
        # A report may be made between the parts of one end.
        return found if all(found.get(f"taskfleet_{name}", 0.0) >= least for name in names) else {}

    first = await until(lambda: counted(40), "all are told")
    assert first["taskfleet_tasks_total"] == 40
    assert first["taskfleet_task_run_seconds_count"] == first["taskfleet_task_wait_seconds_count"] == 40
    assert first["taskfleet_worker_slots"] == 4
    assert first["taskfleet_worker_processes"] == first["taskfleet_worker_ready"] == 2
    workers = await until(lambda: _both(shared), "both have told of themselves")
    os.kill(workers["pod/1"], signal.SIGKILL)

    seen: list[float] = []

    async def replaced() -> bool:
        if not (found := await figures(port)):  # no answer in time says nothing
            return False
        seen.append(found["taskfleet_tasks_total"])
        return found["taskfleet_worker_restarts_total"] == 1 and found["taskfleet_worker_ready"] == 2

    await until(replaced, "it was started again", seconds=60)
    assert set(seen) == {40.0}
    await until(lambda: _answers(port, "/readyz", 200), "both are ready again", seconds=60)
    await shared.enqueue_many([message("note", n, 0.02) for n in range(20)])
    await until(lambda: finished(shared, 60), "all have ended")
    await until(lambda: counted(60), "all are told")
    assert (await _probe(port, "/livez"))[0] == 200
    parent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(parent.wait, 60) == 0


async def test_what_a_process_did_in_its_last_moment_is_not_lost(shared: TaskQueue, start: Start) -> None:
    """One of two drains at once, after a task that no report before its last one can have."""
    port = free_port()
    parent = start(
        "--processes", "2", "--concurrency", "1", "--probe-port", str(port), "--probe-host", "127.0.0.1",
        TASKFLEET_WORKER_NAME="pod",
    )  # fmt: skip
    await until(lambda: _answers(port, "/readyz", 200), "both are ready", seconds=60)
    handles = await shared.enqueue_many([message("hold", n) for n in range(2)])
    await until(lambda: _running(handles), "each runs one")
    pids = (await until(lambda: _both(shared), "both have told of themselves")).values()
    os.kill(next(iter(pids)), signal.SIGTERM)  # it ends its task, and then ends
    await until(lambda: _drains(shared), "it drains")
    await app.release(shared)
    await until(lambda: finished(shared, 2), "both have ended")

    async def ended() -> bool:
        return (await figures(port)).get("taskfleet_worker_restarts_total") == 1

    await until(ended, "one has ended", seconds=60)

    async def both() -> bool:
        return (await figures(port)).get("taskfleet_tasks_total") == 2  # the one that has ended tells nothing any more

    await until(both, "both are told")
    parent.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(parent.wait, 60) == 0


async def _both(queue: TaskQueue) -> dict[str, int]:
    workers = {worker.worker_id: worker.pid for worker in await queue.broker.workers()}
    return workers if len(workers) == 2 else {}


async def _drains(queue: TaskQueue) -> bool:
    return any(worker.state == "draining" for worker in await queue.broker.workers())


async def _running(handles: list[Any]) -> bool:
    return [await handle.status() for handle in handles] == ["running"] * len(handles)


async def test_a_port_that_is_taken_is_an_error_before_any_process_starts(start: Start) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        parent = start("--processes", "2", "--probe-port", str(port), "--probe-host", "127.0.0.1")
        _, errors = await asyncio.to_thread(parent.communicate, timeout=60)
    assert parent.returncode == 2
    assert f"--probe-port {port}: cannot listen on 127.0.0.1" in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_a_delayed_task_has_waited_since_it_was_due(shared: TaskQueue, start: Start) -> None:
    port = free_port()
    worker = start("--probe-port", str(port), "--probe-host", "127.0.0.1")
    await until(lambda: _answers(port, "/readyz", 200), "it is ready", seconds=60)
    began = time.monotonic()
    await shared.enqueue_many([app.note.options(delay=6).message(1)])
    await until(lambda: finished(shared, 1), "it has run")
    since_sent = time.monotonic() - began

    async def counted() -> dict[str, float]:
        found = await figures(port)
        return found if found.get("taskfleet_task_wait_seconds_count") == 1 else {}

    found = await until(counted, "its wait is counted")
    # 6 s less than since it was sent, however late it ran.
    assert found["taskfleet_task_wait_seconds_sum"] < since_sent - 5.0
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 60) == 0


async def test_a_running_worker_answers_in_openmetrics(shared: TaskQueue, start: Start) -> None:
    port = free_port()
    worker = start("--probe-port", str(port), "--probe-host", "127.0.0.1")
    await until(lambda: _answers(port, "/readyz", 200), "it is ready", seconds=60)

    def ask() -> tuple[str, str]:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return reply.headers["Content-Type"], reply.read().decode()

    kind, text = await asyncio.to_thread(ask)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")
    worker.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(worker.wait, 60) == 0
