"""Two applications share one Redis, with worker processes and with `taskfleet up`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskfleet import TaskQueue
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import MakeQueue, until
from tests.support.processes import python_processes
from tests.support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]

MANIFEST = """
apiVersion: taskfleet.io/v1alpha1
kind: TaskQueue
metadata: {{name: only-{app}}}
spec:
  redis: {{url: "redis://redis.invalid:6379/0", keyPrefix: {prefix}}}
  queues: [{{name: {app}}}]
  worker: {{image: "registry.example/two:1", app: "tests.support.two_apps:{app}", concurrency: 2}}
  autoscaler: {{minReplicas: 1, maxReplicas: 1, pollIntervalSeconds: 1}}
"""


@pytest.fixture
def shared(make_queue: MakeQueue, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    queue = make_queue(server.url)
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)
    return queue


async def both_run_their_own(queue: TaskQueue, start_other: Callable[[], object]) -> None:
    """Tasks of `a` wait untouched while `b` is served, until `a` has a worker too."""
    from tests.support.two_apps import of_a, of_b

    await queue.enqueue_many([of_a.message(n) for n in range(200)])
    await queue.enqueue_many([of_b.message(n) for n in range(200)])
    await until(lambda: finished(queue, "b", 200), "b is served", seconds=60)
    stats = await queue.queue_stats("a")
    assert (stats.ready, stats.in_flight, stats.dead) == (200, 0, 0)
    start_other()
    await until(lambda: finished(queue, "a", 200), "a is served", seconds=60)
    assert (await queue.queue_stats("a")).dead == (await queue.queue_stats("b")).dead == 0


async def finished(queue: TaskQueue, name: str, count: int) -> bool:
    return (await queue.queue_stats(name)).finished_total == count


async def test_workers_of_two_applications(shared: TaskQueue) -> None:
    with ExitStack() as stack:
        start_a, start_b = (
            stack.enter_context(python_processes("taskfleet", "worker", f"tests.support.two_apps:{app}"))
            for app in ("a", "b")
        )
        start_b("--queues", "b")
        await both_run_their_own(shared, start_a)


def test_workers_without_a_given_name_get_different_names(shared: TaskQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKFLEET_WORKER_NAME", raising=False)
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    assert Worker(shared).identity.worker_id != Worker(shared).identity.worker_id


@pytest.fixture
def up(shared: TaskQueue, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(app: str) -> subprocess.Popen[bytes]:
        manifest = tmp_path / f"{app}.yaml"
        manifest.write_text(MANIFEST.format(app=app, prefix=shared.broker.prefix))
        process = subprocess.Popen(
            [sys.executable, "-m", "taskfleet", "up", str(manifest), "--redis", shared.url],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def test_two_manifests_on_one_machine(shared: TaskQueue, up: Callable[[str], subprocess.Popen[bytes]]) -> None:
    up("b")
    await both_run_their_own(shared, lambda: up("a"))
