"""A real Redis server for every test run, and a fresh key prefix for every test."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

import pytest

from taskfleet import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet.runtime.worker import Worker
from taskfleet.settings import RedisSettings, SchedulerSettings, Settings, WorkerSettings
from tests.support import orphans
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import RedisCluster

# A busy machine may stand still for longer than the usual limits of the library.
PATIENT: Mapping[str, Any] = {"command_timeout": 30.0, "connection_timeout": 30.0}

_servers: list[RedisServer] = []  # of this run, which tests share
_watch = orphans.Watch()


@pytest.fixture(autouse=True)
def no_orphans(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the test and all its other fixtures, no key is left in Redis without an owner or a time to live.

    `@pytest.mark.orphans(reason)` is for tests that write such keys themselves.
    """
    yield
    try:
        if request.node.get_closest_marker("orphans") is None:
            assert _watch.orphans(_servers) == [], "nothing would ever remove these"
    finally:
        _watch.clear(_servers)


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    """A separate server, which tests may stop and start."""
    with RedisServer() as server:
        _servers.append(server)
        yield server


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The Redis of the behaviour tests: `REDIS_TEST_URL`, or a server or Cluster (`--redis-topology`) of this run."""
    if url := os.environ.get("REDIS_TEST_URL"):
        yield url
    elif request.config.getoption("redis_topology") == "cluster":
        with RedisCluster() as cluster:
            _servers.extend(cluster.masters)
            yield cluster.url
    else:
        yield request.getfixturevalue("server").url


MakeQueue = Callable[..., TaskQueue]
RunWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
def queues_url(redis_url: str) -> str:
    """The store of the test's queues."""
    return redis_url


@pytest.fixture
async def make_queue(queues_url: str) -> AsyncIterator[MakeQueue]:
    """Make queues that share one fresh key prefix. Their keys are deleted afterwards: see `no_orphans`."""
    prefix = f"test-{secrets.token_hex(6)}"
    queues: list[TaskQueue] = []

    def make(
        url: str = queues_url,
        *,
        slots: int = 8,
        grace: float = 5.0,
        heartbeat: float = 0.2,
        scheduler: SchedulerSettings | None = None,
        redis: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> TaskQueue:
        limits: Mapping[str, Any] = PATIENT if redis is None or "command_timeout" not in redis else {}
        settings = Settings(
            redis=RedisSettings(**{"url": url, "key_prefix": prefix, **limits, **(redis or {})}),
            workers=WorkerSettings(
                max_concurrent_tasks=slots, heartbeat_interval=heartbeat, shutdown_grace_period=grace
            ),
            scheduler=scheduler or SchedulerSettings(),
        )
        queue = TaskQueue(settings=settings, **options)
        queues.append(queue)
        return queue

    yield make
    for queue in queues:
        await queue.close()
    if os.environ.get("REDIS_TEST_URL") == queues_url:
        await _delete_keys(queues_url, prefix)


async def _delete_keys(url: str, prefix: str) -> None:
    cleaner = RedisBroker.from_url(url)
    async for key in cleaner.client.scan(f"{prefix}:*"):
        await cleaner.client.redis.delete(key)
    await cleaner.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> TaskQueue:
    return make_queue()


@pytest.fixture
def shared(make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    """A queue whose Redis and prefix are in the environment, so that other processes share it."""
    queue = make_queue()
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("REDIS_COMMAND_TIMEOUT", "30")  # see PATIENT
    monkeypatch.setenv("REDIS_CONNECTION_TIMEOUT", "30")
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)
    return queue


@pytest.fixture
async def run_worker() -> AsyncIterator[RunWorker]:
    """Run workers beside the test and drain them after it. A test must request it after `make_queue`."""
    running: list[tuple[Worker, asyncio.Task[None]]] = []

    async def run(queue: TaskQueue, **options: Any) -> Worker:
        worker = Worker(queue, **{"name": f"worker-{len(running)}-{secrets.token_hex(3)}"} | options)
        running.append((worker, asyncio.create_task(worker.run())))
        await until(lambda: worker.health.connected, "the worker is connected")
        return worker

    yield run
    for worker, task in running:
        if not task.done():
            worker.drain()
        done, _ = await asyncio.wait([task], timeout=60)
        assert done, f"the worker did not drain: {awaiting(task)}"
        await task


def awaiting(task: asyncio.Task[Any]) -> list[str]:
    """The stack of coroutines that an asyncio task waits in, outermost first."""
    places: list[str] = []
    inner: Any = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None)
        places.append(f"{inner.__qualname__}:{frame.f_lineno}" if frame else repr(inner))
        inner = getattr(inner, "cr_await", None)
    return places


async def until(condition: Callable[[], Any], what: str, *, seconds: float = 60.0) -> Any:
    """Wait for a condition (plain or awaitable) and return its value; fails with `what` after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain: {what}")
        await asyncio.sleep(0.01)
