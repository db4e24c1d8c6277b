"""For every reply of Redis, the user gets a Taskfleet error: one line that names the server and says what to do."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from taskfleet import BrokerConnectionError, TaskQueue, TaskQueueError, chain, chord, group
from taskfleet.errors import BrokerOutOfMemoryError
from taskfleet.handles import TaskHandle
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.settings import RedisSettings, Settings
from tests.engine.conftest import MakeQueue
from tests.engine.test_command import run
from tests.support.erring_server import answering

Call = Callable[[TaskQueue, Any], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "enqueue": lambda queue, task: task.enqueue(1),
    "delayed": lambda queue, task: task.options(delay=5).enqueue(1),
    "unique": lambda queue, task: task.options(unique_key="u", unique_mode="replace").enqueue(1),
    "schedule": lambda queue, task: queue.schedule(task.message(1), delay=5),
    "send": lambda queue, task: queue.send(task.message(1)),
    "enqueue_many": lambda queue, task: queue.enqueue_many([task.message(n) for n in range(3000)]),
    "chain": lambda queue, task: queue.enqueue(chain(task.message(1), task.message())),
    "group": lambda queue, task: queue.enqueue(group(task.message(1), task.message(2))),
    "chord": lambda queue, task: queue.enqueue(chord(group(task.message(1)), task.message())),
    "after": lambda queue, task: task.options(after=[queue.handle("a")]).enqueue(1),
    "health_check": lambda queue, task: queue.health_check(),
    "queue_stats": lambda queue, task: queue.queue_stats("default"),
    "get_metrics": lambda queue, task: queue.get_metrics(),
    "workers": lambda queue, task: queue.workers(),
    "list_tasks": lambda queue, task: queue.list_tasks("default"),
    "search_tasks": lambda queue, task: queue.search_tasks("x"),
    "retry": lambda queue, task: queue.retry("id"),
    "dead_letters": lambda queue, task: queue.dead_letters("default"),
    "requeue_dead": lambda queue, task: queue.requeue_dead("default"),
    "purge_dead": lambda queue, task: queue.purge_dead("default"),
    "purge": lambda queue, task: queue.purge("default"),
    "pause": lambda queue, task: queue.pause("default"),
    "resume": lambda queue, task: queue.resume("default"),
    "add_schedule": lambda queue, task: queue.add_schedule(name="s", every=5, task=task, args=[1]),
    "remove_schedule": lambda queue, task: queue.remove_schedule("s"),
    "pause_schedule": lambda queue, task: queue.pause_schedule("s"),
    "resume_schedule": lambda queue, task: queue.resume_schedule("s"),
    "run_schedule": lambda queue, task: queue.run_schedule("s"),
    "list_schedules": lambda queue, task: queue.list_schedules(),
    "status": lambda queue, task: queue.handle("a").status(),
    "result": lambda queue, task: queue.handle("a").result(timeout=5),
    "cancel": lambda queue, task: queue.handle("a").cancel(),
    "progress": lambda queue, task: queue.handle("a").progress(),
    "known": lambda queue, task: TaskHandle(queue.sessions, "a", Partition("default")).result(timeout=5),
}
# Calls that start or stop work in this process. They do not wait for Redis.
_LOCAL = {
    "start_workers", "stop_workers", "start_scheduler", "stop_scheduler", "disconnect", "close", "schedule", "send",
}  # fmt: skip

REPLIES = {
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
    "NOPERM": b"-NOPERM this user has no permissions to run the 'evalsha' command\r\n",
    "WRONGTYPE": b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    "MISCONF": b"-MISCONF Redis is configured to save RDB snapshots, but is unable to persist on disk.\r\n",
    "CROSSSLOT": b"-CROSSSLOT Keys in request don't hash to the same slot\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "BUSY": b"-BUSY Redis is busy running a script.\r\n",
    "ERR": b"-ERR unknown command\r\n",
    "escape": b"-ERR \x1b[2Jowned \xff\r\n",
    "protocol": b"\x00\xff nonsense\r\n",
    "hangs up": b"",
    "silent": b"...",
}


def queue_at(url: str, seconds: float = 0.3) -> tuple[TaskQueue, Any]:
    """`seconds` are the limits of a call: with short ones the error may be that of a server which has not answered."""
    settings = Settings(redis=RedisSettings(url=url, command_timeout=seconds, connection_timeout=seconds))
    queue = TaskQueue(settings=settings)

    @queue.task(name="work")
    async def work(n: int) -> int:
        return n

    return queue, work


def test_every_public_call_is_tried() -> None:
    coroutines = {
        name for name, member in inspect.getmembers(TaskQueue, inspect.iscoroutinefunction) if not name.startswith("_")
    }
    assert coroutines - _LOCAL <= set(CALLS)


@pytest.mark.parametrize("answer", REPLIES)
async def test_every_call_raises_a_taskfleet_error(answer: str) -> None:
    async with answering(REPLIES[answer]) as url:
        queue, task = queue_at(url)
        try:
            for name, call in CALLS.items():
                with pytest.raises(TaskQueueError) as caught:
                    await call(queue, task)
                message = str(caught.value)
                assert message.isprintable(), name
                assert len(message) < 1000, name
                assert url.removeprefix("redis://").removesuffix("/0") in message, name
        finally:
            await queue.close()


@pytest.mark.parametrize("answer", ["OOM", "WRONGTYPE", "READONLY", "protocol"])
async def test_also_from_code_without_a_loop(answer: str) -> None:
    async with answering(REPLIES[answer]) as url:
        queue, task = queue_at(url)
        calls: list[Callable[[], Any]] = [
            lambda: task.enqueue_sync(1),
            lambda: queue.enqueue_many_sync([task.message(1)]),
            lambda: queue.enqueue_sync(chain(task.message(1), task.message())),
            lambda: queue.schedule_sync(task.message(1), delay=5),
            lambda: queue.handle("a").status_sync(),
            lambda: queue.handle("a").result_sync(timeout=5),
            lambda: queue.handle("a").cancel_sync(),
            lambda: queue.handle("a").progress_sync(),
        ]
        errors: list[BaseException | None] = []

        def all_calls() -> None:
            for call in calls:
                try:
                    call()
                except BaseException as error:
                    errors.append(error)

        thread = threading.Thread(target=all_calls)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(errors) == len(calls)
        assert all(isinstance(error, TaskQueueError) for error in errors), errors
        await queue.close()


async def test_the_kinds_are_told_apart() -> None:
    async with answering(REPLIES["OOM"]) as url:
        queue, task = queue_at(url, seconds=60.0)
        with pytest.raises(BrokerOutOfMemoryError, match="raise maxmemory"):
            await task.enqueue(1)
        await queue.close()
    async with answering(REPLIES["NOAUTH"]) as url:
        queue, task = queue_at(url, seconds=60.0)
        with pytest.raises(BrokerConnectionError, match="check user name and password"):
            await task.enqueue(1)
        await queue.close()


@pytest.mark.parametrize("arguments", [["queues"], ["dead", "list", "default"], ["task", "show", "a"], ["pause", "a"]])
async def test_the_command_says_it_in_one_line(arguments: list[str]) -> None:
    async with answering(REPLIES["escape"]) as url:
        code, out, errors = await run(*arguments, REDIS_URL=url, REDIS_COMMAND_TIMEOUT="1")
    assert (code, out) == (1, "")
    assert errors.startswith("taskfleet: Redis at 127.0.0.1:")
    assert errors.count("\n") == 1
    assert errors.strip().isprintable()


@pytest.mark.orphans("it replaces keys as another program does")
@pytest.mark.parametrize("part", ["ready", "task", "lease", "dead", "stat", "control"])
async def test_a_foreign_key_under_the_same_name_is_named(make_queue: MakeQueue, part: str) -> None:
    queue = make_queue()
    broker = queue.broker
    assert isinstance(broker, RedisBroker)

    @queue.task
    async def work() -> None: ...

    await work.enqueue()
    key = f"{broker.prefix}:{{default}}:{part}"
    await broker.client.redis.delete(key)
    await broker.client.redis.set(key, "another program's")
    calls: list[Call] = [CALLS["queue_stats"], CALLS["get_metrics"], CALLS["dead_letters"], CALLS["purge_dead"]]
    told = [error for error in [await _error_of(call(queue, None)) for call in calls] if error]
    assert told
    assert all(f"key '{key}' holds a string" in error and "key_prefix" in error for error in told)
    await broker.client.redis.delete(key)


async def _error_of(call: Awaitable[Any]) -> str:
    try:
        await call
    except TaskQueueError as error:
        return str(error)
    return ""


async def test_the_list_of_queues_too(make_queue: MakeQueue) -> None:
    queue = make_queue()
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    await broker.client.redis.rpush(broker.fleet.queues, 1)
    with pytest.raises(BrokerConnectionError, match=f"key '{broker.fleet.queues}' holds a list"):
        await queue.get_metrics()
    with pytest.raises(BrokerConnectionError, match=f"key '{broker.fleet.queues}' holds a list"):
        await queue.list_schedules()
