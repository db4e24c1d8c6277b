"""Workers as processes: started by the command, killed, drained, frozen."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taskfleet import TaskQueue
from tests.engine import app
from tests.engine.conftest import until
from tests.support import white_box
from tests.support.ports import free_port
from tests.support.processes import Start, python_processes
from tests.support.redis_server import RedisServer


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker", "tests.engine.app:queue") as start:
        yield start


def message(name: str, *args: Any) -> Any:
    return getattr(app, name).message(*args)


async def ledger(queue: TaskQueue) -> list[tuple[int, int, int]]:
    entries = await queue.broker.client.redis.lrange(f"{queue.broker.prefix}:ledger", 0, -1)
    return [tuple(map(int, entry.split(b":"))) for entry in entries]  # type: ignore[misc]


async def finished(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).finished_total >= count


async def test_nothing_is_lost_when_a_worker_is_killed(shared: TaskQueue, start: Start) -> None:
    handles = await shared.enqueue_many([message("note", n, 0.01) for n in range(400)])
    victim = start("--concurrency", "4")
    await until(lambda: ledger(shared), "the victim works", seconds=60)
    victim.kill()
    victim.wait(60)
    held = (await shared.queue_stats("default")).in_flight
    await white_box.end_leases(shared)
    start("--concurrency", "50")
    await until(lambda: finished(shared, 400), "all have ended", seconds=60)
    assert sorted([await handle.result(timeout=60) for handle in handles]) == list(range(400))
    executions = Counter(n for n, _, _ in await ledger(shared))
    assert set(executions) == set(range(400))
    repeated = [n for n, count in executions.items() if count > 1]
    assert len(repeated) <= held  # only tasks that the victim held ran twice
    assert all(attempt == 1 for _, attempt, _ in await ledger(shared))


async def test_sigterm_drains_and_exits_with_success(shared: TaskQueue, start: Start) -> None:
    handles = await shared.enqueue_many([message("hold", n) for n in range(30)])
    worker = start("--concurrency", "5")
    await until(lambda: _entries(shared, 5), "it works in all its slots", seconds=60)
    worker.send_signal(signal.SIGTERM)
    await until(lambda: _state(shared, "draining"), "it drains")
    await app.release(shared)
    assert await asyncio.to_thread(worker.wait, 60) == 0
    stats = await shared.queue_stats("default")
    assert (stats.finished_total, stats.in_flight, stats.ready) == (5, 0, 25)
    assert await handles[0].result(timeout=60) == 0
    assert await shared.broker.workers() == []


async def test_a_second_sigterm_ends_at_once_and_loses_nothing(shared: TaskQueue, start: Start) -> None:
    (handle,) = await shared.enqueue_many([message("note", 1, 60.0)])
    worker = start()
    await until(lambda: ledger(shared), "it works", seconds=60)
    worker.send_signal(signal.SIGTERM)
    await until(lambda: _state(shared, "draining"), "it drains")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 1  # the task takes a minute, and the grace period half of one
    await white_box.end_leases(shared)
    start()
    await until(lambda: _entries(shared, 2), "another worker runs it", seconds=60)
    assert [delivery for _, _, delivery in await ledger(shared)] == [1, 2]
    assert await handle.status() == "running"


async def _entries(queue: TaskQueue, count: int) -> bool:
    return len(await ledger(queue)) >= count


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def _state(queue: TaskQueue, state: str) -> bool:
    return any(worker.state == state for worker in await queue.broker.workers())


async def test_a_frozen_worker_cannot_record_a_task_that_another_has_done(shared: TaskQueue, start: Start) -> None:
    (handle,) = await shared.enqueue_many([message("hold", 7)])
    frozen = start()
    await until(lambda: ledger(shared), "it works", seconds=60)
    frozen.send_signal(signal.SIGSTOP)
    await until(lambda: _is_stopped(frozen.pid), "it renews no lease any more")
    await white_box.end_leases(shared)
    start()
    await until(lambda: _entries(shared, 2), "another worker has taken over", seconds=60)
    await app.release(shared)
    assert await handle.result(timeout=60) == 7
    frozen.send_signal(signal.SIGCONT)
    frozen.send_signal(signal.SIGTERM)
    _, errors = await asyncio.to_thread(frozen.communicate, timeout=60)
    assert frozen.returncode == 0
    assert b"taken from this worker" in errors or b"knows nothing" in errors
    stats = await shared.queue_stats("default")
    assert (stats.finished_total, stats.in_flight, stats.ready) == (1, 0, 0)


async def test_several_processes_share_the_work_and_come_back_when_killed(shared: TaskQueue, start: Start) -> None:
    parent = start("--processes", "2", "--concurrency", "2", TASKFLEET_WORKER_NAME="pod")
    ids = {"pod/0", "pod/1"}

    async def registered() -> dict[str, int]:
        workers = {worker.worker_id: worker.pid for worker in await shared.broker.workers()}
        return workers if set(workers) == ids else {}

    before = await until(registered, "both are there", seconds=60)
    os.kill(before["pod/1"], signal.SIGKILL)

    async def replaced() -> bool:
        return (await registered()).get("pod/1", before["pod/1"]) != before["pod/1"]

    await until(replaced, "the killed one was started again", seconds=60)
    handles = await shared.enqueue_many([message("note", n) for n in range(20)])
    await until(lambda: finished(shared, 20), "all have ended")
    assert [await handle.result(timeout=60) for handle in handles] == list(range(20))
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(60) == 0


async def _probe(port: int, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    return await asyncio.to_thread(get)


async def _answers(port: int, path: str, status: int) -> bool:
    return (await _probe(port, path))[0] == status


async def test_probes_answer_while_tasks_block(shared: TaskQueue, start: Start) -> None:
    port = free_port()
    worker = start("--probe-port", str(port), "--probe-host", "127.0.0.1")
    await until(lambda: _answers(port, "/readyz", 200), "it is ready", seconds=60)
    await shared.enqueue_many([message("note", 1), message("block")])
    await until(lambda: finished(shared, 1), "one has ended")
    assert (await _probe(port, "/livez"))[0] == 200
    _, text = await _probe(port, "/metrics")
    assert 'taskfleet_tasks_total{outcome="succeeded",queue="default",task="note"} 1.0' in text
    assert "taskfleet_worker_slots 16.0" in text
    assert (await _probe(port, "/elsewhere"))[0] == 404
    worker.send_signal(signal.SIGTERM)
    await until(lambda: _answers(port, "/readyz", 503), "a draining worker is not ready")
    assert "draining" in (await _probe(port, "/readyz"))[1]
    await app.release(shared)
    assert await asyncio.to_thread(worker.wait, 60) == 0


async def test_a_worker_waits_for_a_redis_that_is_down_at_start(start: Start) -> None:
    server, port = RedisServer(), free_port()
    worker = start("--probe-port", str(port), REDIS_URL=server.url)
    await until(lambda: _answers(port, "/livez", 200), "it lives", seconds=60)
    status, text = await _probe(port, "/readyz")
    assert status == 503
    assert f"no answer from Redis at 127.0.0.1:{server.port}" in text
    with server:
        await until(lambda: _answers(port, "/readyz", 200), "it is ready once Redis is", seconds=60)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 60) == 0
    _, errors = worker.communicate()
    first = next(line for line in errors.decode().splitlines() if "cannot reach" in line)
    assert f"cannot reach Redis at 127.0.0.1:{server.port}: connection refused; start it, or set REDIS_URL" in first
    assert b"Traceback" not in errors


async def test_a_worker_process_lets_schedules_tick_unless_told_not_to(shared: TaskQueue, start: Start) -> None:
    start(TASK_QUEUE_SCHEDULER="false")
    await until(lambda: shared.broker.workers(), "the worker runs", seconds=60)
    await shared.add_schedule(name="s", schedule="* * * * * *", task=message("note", 7).task.name, args=[7])
    await asyncio.sleep(1.5)
    assert await ledger(shared) == []
    start(TASK_QUEUE_SCHEDULER="true")
    await until(lambda: ledger(shared), "it has run", seconds=60)
    assert (await ledger(shared))[0] == (7, 1, 1)


async def test_the_environment_stands_over_an_application_that_only_says_where_redis_is(shared: TaskQueue) -> None:
    @shared.task
    async def long() -> None: ...

    handle = await long.enqueue()
    settings = {
        "TASKFLEET_WORKERS__SHUTDOWN_GRACE_PERIOD": "0.1",  # the default is 30 s, longer than this test waits
        "TASKFLEET_WORKERS__MAX_CONCURRENT_TASKS": "3",
        "TASKFLEET_WORKERS__HEARTBEAT_INTERVAL": "0.2",
    }
    with python_processes("taskfleet", "worker", "tests.engine.plain_app:queue") as start:
        worker = start(**settings)

        async def running() -> bool:
            return await handle.status() == "running"

        async def slots() -> bool:
            return [info.slots for info in await shared.broker.workers()] == [3]

        await until(running, "it runs", seconds=60)
        await until(slots, "it reports its slots")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    assert await handle.status() == "ready"
