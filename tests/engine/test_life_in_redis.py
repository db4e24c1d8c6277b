"""The life of tasks in Redis only: lost workers, forks, users without rights, foreign data, bounds of the errors."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from taskfleet import TaskInfo, TaskQueue, ids
from taskfleet.protocol import attempt_errors, dead_record
from taskfleet.protocol.introductions import AGAIN_SECONDS, KEPT_SECONDS
from taskfleet.redis import acl
from tests.engine.conftest import MakeQueue, until
from tests.support import white_box
from tests.support.processes import Start, python_processes
from tests.support.redis_server import RedisServer
from tests.support.white_box import RawWorker

RECORD = dead_record.pack_attempt("exception", "E: no", "", "w/0")


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes("taskfleet", "worker", "tests.engine.app:queue") as start:
        yield start


def redis_of(queue: TaskQueue) -> Any:
    return queue.broker.client.redis  # type: ignore[attr-defined]


def keys_of(queue: TaskQueue, name: str = "default") -> Any:
    return queue.broker.keys_of(name)  # type: ignore[attr-defined]


async def test_a_killed_worker_is_named_by_the_attempt_that_it_ended(shared: TaskQueue, start: Start) -> None:
    from tests.engine import app

    handle = shared.handle((await shared.send(app.note.message(1, 600.0))).id)
    victim = start("--concurrency", "1")

    async def named() -> TaskInfo | None:
        info = await handle.info()
        return info if info.state == "running" and info.worker else None

    before: TaskInfo = await until(named, "it runs, and its worker is known")
    assert before.worker is not None
    assert f"-{victim.pid}-" in before.worker
    victim.kill()
    victim.wait(20)

    async def lost() -> TaskInfo | None:
        await white_box.end_leases(shared)
        await RawWorker(shared, "another").step(0)
        info = await handle.info()
        return info if info.errors else None

    info: TaskInfo = await until(lost, "its lease has ended and it was taken over")
    (error,) = info.errors
    assert (error.reason, error.attempt, error.worker) == ("worker_lost", 1, before.worker)
    await shared.purge("default")


async def test_a_process_that_ends_at_once_is_still_known(shared: TaskQueue) -> None:
    code = (
        "import asyncio, os\n"
        "from taskfleet import TaskQueue\n"
        "queue = TaskQueue.from_config()\n"
        "@queue.task\n"
        "async def task() -> None: ...\n"
        "async def main():\n"
        "    print(os.getpid(), (await task.options(delay=60).enqueue()).id)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    pid, task_id = done.stdout.split()
    assert (await shared.handle(task_id).info()).enqueued_by == f"{socket.gethostname()}:{pid}"
    await shared.purge("default")


async def test_a_forked_process_introduces_itself(shared: TaskQueue) -> None:
    code = (
        "import os\n"
        "from taskfleet import TaskQueue\n"
        "queue = TaskQueue.from_config()\n"
        "@queue.task\n"
        "async def task() -> None: ...\n"
        "first = task.options(delay=60).enqueue_sync().id\n"
        "child = os.fork()\n"
        "handle = task.options(delay=60).enqueue_sync()\n"
        "if not child:\n"
        "    print(os.getpid(), handle.id, flush=True)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(os.getpid(), handle.id)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    told = [line.split() for line in done.stdout.splitlines()]
    assert len({pid for pid, _ in told}) == 2, done.stderr
    for pid, task_id in told:
        assert (await shared.handle(task_id).info()).enqueued_by == f"{socket.gethostname()}:{pid}"
    await shared.purge("default")


async def test_an_introduction_is_written_once_and_expires(queue: TaskQueue) -> None:
    @queue.task
    async def task(n: int) -> None: ...

    await task.enqueue(0)
    key = queue.broker.fleet.who(ids.prefix())  # type: ignore[attr-defined]
    redis = redis_of(queue)
    assert await redis.get(key) == f"{socket.gethostname()}:{os.getpid()}".encode()
    assert KEPT_SECONDS - 60 < await redis.pttl(key) / 1000 <= KEPT_SECONDS
    await redis.delete(key)
    for n in range(5):
        await task.options(queue=f"q{n}").enqueue(n)
    assert not await redis.exists(key), "nothing is written for further tasks and queues"
    introduction = queue.broker.introduction  # type: ignore[attr-defined]
    assert introduction._timer is not None
    assert 0 < introduction._timer.when() - asyncio.get_running_loop().time() <= AGAIN_SECONDS
    introduction.again()  # what the timer calls
    await until(lambda: redis.exists(key), "it is written again while the process lives")
    await queue.broker.close()
    assert introduction._timer is None, "a closed queue opens no connection again by itself"
    for n in range(5):
        await queue.purge(f"q{n}")
    await queue.purge("default")


async def test_a_user_that_may_not_introduce_itself_sends_as_before(make_queue: MakeQueue) -> None:
    with RedisServer() as server:
        rule = [word for word in acl.rule("producer", "app") if not word.startswith("~")]
        patterns = ["~app:queues", "~app:{default}:*"]  # no key of the fleet
        server.call("ACL", "SETUSER", "limited", "on", "nopass", *rule, *patterns)
        queue = make_queue(
            server.url, redis={"username": "limited", "password": "any", "key_prefix": "app", "command_timeout": 60.0}
        )

        @queue.task
        async def task() -> None: ...

        began = time.monotonic()
        handle = await task.enqueue()
        assert time.monotonic() - began < 40
        reader = make_queue(server.url, redis={"key_prefix": "app"})
        info = await reader.handle(handle.id).info()
        assert (info.state, info.enqueued_by) == ("ready", None)


async def test_a_failure_to_introduce_itself_is_no_failure_to_send(
    queue: TaskQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    @queue.task
    async def task() -> None: ...

    introduction = queue.broker.introduction  # type: ignore[attr-defined]
    monkeypatch.setattr(introduction, "_set", lambda client: client.execute_command("NO-SUCH-COMMAND"))
    handle = await task.enqueue()
    assert await handle.status() == "ready"
    assert (await handle.info()).enqueued_by is None
    assert not introduction.is_due, "it is tried again only after a while"
    await queue.purge("default")


async def test_the_errors_of_a_partition_are_bounded(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handles = [await task.enqueue() for _ in range(2)]
    worker = RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(2)
    await worker.step(0, [(handles[0].id, 1, "r", 5, b"", 0, (60_000, RECORD))])
    redis, names = redis_of(queue), keys_of(queue)
    filler = {f"filler-{n}": b"" for n in range(attempt_errors.MOST_FAILING)}
    await redis.hset(names.errors, mapping=filler)
    await worker.step(0, [(handles[1].id, 1, "r", 5, b"", 0, (60_000, RECORD))])
    assert [len((await handle.info()).errors) for handle in handles] == [1, 0]
    assert await handles[1].status() == "retrying", "the retry itself is recorded"
    await redis.delete(names.errors)
    await queue.purge("default")


async def test_errors_that_nothing_removes_end_by_themselves_a_month_after_the_last_next_attempt(
    queue: TaskQueue,
) -> None:
    @queue.task
    async def task() -> None: ...

    day, worker, redis, names = 86_400_000, RawWorker(queue, "w", lease_ms=60_000), redis_of(queue), keys_of(queue)
    kept = []
    for days in (10, 40, 1):
        handle = await task.enqueue()
        await worker.step(1)
        await worker.step(0, [(handle.id, 1, "r", 5, b"", 0, (days * day, RECORD))])
        kept.append(round(await redis.pttl(names.errors) / day))
    assert kept == [40, 70, 70]
    await queue.purge("default")


async def test_errors_that_a_worker_of_an_earlier_version_has_left_are_removed(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    redis, names = redis_of(queue), keys_of(queue)
    left = attempt_errors.pack([attempt_errors.StoredError(1, 1, 2, b"x" * 200, "")])
    await redis.hset(names.errors, mapping={f"gone-{n}": left for n in range(20)})
    handle = await task.enqueue()
    worker, delivery = RawWorker(queue, "w", lease_ms=60_000), 0

    async def swept() -> bool:
        nonlocal delivery
        await worker.step(1)
        delivery += 1
        await worker.step(0, [(handle.id, delivery, "r", 5, b"", 0, (0, RECORD))])
        return set(await redis.hkeys(names.errors)) == {handle.id.encode()}

    await until(swept, "every failure removes some of them")
    await queue.purge("default")


async def test_a_worker_whose_rights_are_those_of_an_earlier_version_keeps_errors(make_queue: MakeQueue) -> None:
    with RedisServer() as server:
        server.call("ACL", "SETUSER", "old", "on", "nopass", *acl.rule("worker", "app"), "-hlen")
        queue = make_queue(server.url, redis={"username": "old", "password": "any", "key_prefix": "app"})

        @queue.task
        async def task() -> None: ...

        handle = await task.enqueue()
        worker = RawWorker(queue, "w", lease_ms=60_000)
        await worker.step(1)
        await worker.step(0, [(handle.id, 1, "r", 5, b"", 0, (60_000, RECORD))])
        assert len((await handle.info()).errors) == 1


@pytest.mark.parametrize(
    "value",
    [b"", b"\xc1", b"\x90", b"\x91\x90", b"\x91\x95\x01\x01\x01\x01\x01", msgpack.packb([[1, 2, 3, "x", "y"]]),
     msgpack.packb([[-1, 1e300, 3, "x", "y"]]), msgpack.packb({"a": 1}), b"\xdd\xff\xff\xff\xff",
     msgpack.packb([["a"] * 5] * 40), b"\x91" * 5000],
)  # fmt: skip
async def test_errors_that_another_program_has_written_break_nothing(queue: TaskQueue, value: bytes) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    redis, names = redis_of(queue), keys_of(queue)
    await redis.hset(names.errors, handle.id, value)
    assert len((await handle.info()).errors) <= 1
    worker = RawWorker(queue, "w", lease_ms=60_000)
    await worker.step(1)
    await worker.step(0, [(handle.id, 1, "r", 5, b"", 0, (60_000, RECORD))])
    assert (await handle.info()).errors[-1].error == "E: no"
    await queue.purge("default")


@pytest.mark.orphans("another program has written members without a task")
async def test_members_that_another_program_has_written_are_passed_over(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    redis, names = redis_of(queue), keys_of(queue)
    odd = [b"\xff\xfe", b"", b"\0", b"\0\0\0", "ü".encode(), b"a" * 3000, b"x\x1b[2J", b"%s{}*?["]
    later = await task.options(delay=60).enqueue()
    await redis.rpush(names.ready, *odd)
    ready = await task.enqueue()
    for part in ("delayed", "blocked", "lease", "dead", "parked", "fair"):
        await redis.zadd(getattr(names, part), dict.fromkeys(odd, 1e300))
        await redis.zadd(getattr(names, part), {b"\xff": float("inf"), b"\xfe": float("-inf")})
    await redis.hset(names.letter, mapping={"ü": b"\xc1", "a" * 3000: b""})
    await redis.hset(names.task, "ü", b"\xff" * 9)
    await redis.hset(names.tag, "ü", msgpack.packb({"l": 7, "p": [], "n": {"x": 1}}))
    for limit in (1, 3, 50):
        found: list[str] = []
        cursor, calls = None, 0
        while True:
            page = await queue.list_tasks("default", limit=limit, cursor=cursor)
            found += [info.id for info in page.items]
            cursor, calls = page.cursor, calls + 1
            assert calls < 200, "it comes to its end"
            if cursor is None:
                break
        assert {later.id, ready.id} <= set(found)
    assert (await queue.search_tasks("nothing")).cursor is None


async def test_a_key_of_another_type_is_an_error_in_one_line(queue: TaskQueue) -> None:
    from taskfleet import BrokerConnectionError

    await redis_of(queue).set(keys_of(queue).ready, "x", px=60_000)
    with pytest.raises(BrokerConnectionError, match="holds a string"):
        await queue.list_tasks("default")


async def test_a_payload_beyond_the_limit_of_a_reply_is_told(make_queue: MakeQueue) -> None:
    writer = make_queue(max_payload_bytes=20_000_000)
    reader = make_queue(max_payload_bytes=1000, max_result_bytes=1000)

    @writer.task
    async def task(text: str) -> None: ...

    handle = await task.enqueue("x" * 10_000_000)
    info = await reader.handle(handle.id).info()
    assert (info.state, info.args) == ("ready", None)
    assert "too large to be shown" in (info.problem or "")
    assert [each.id for each in (await reader.list_tasks("default")).items] == [handle.id]
    await writer.purge("default")


async def test_the_task_of_a_schedule_tells_the_process_of_the_scheduler(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()

    @queue.task
    async def task() -> None: ...

    await queue.add_schedule(name="s", task=task, every=1)
    await queue.start_scheduler()
    listed = await until(lambda: _items(queue), "it has ticked")
    assert await until(lambda: _sender(queue, listed[0].id), "its process is known")
    await queue.stop_scheduler()
    await queue.remove_schedule("s")
    await queue.purge("default")


async def _items(queue: TaskQueue) -> tuple[TaskInfo, ...]:
    return (await queue.list_tasks("default")).items


async def _sender(queue: TaskQueue, task_id: str) -> str | None:
    return (await queue.handle(task_id).info()).enqueued_by


async def test_listing_needs_a_connection(make_queue: MakeQueue) -> None:
    from taskfleet import BrokerConnectionError

    queue = make_queue("redis://127.0.0.1:1/0")
    with pytest.raises(BrokerConnectionError):
        await queue.list_tasks()


def test_the_bounds_in_lua_are_those_of_the_library() -> None:
    from taskfleet.redis import scripts

    text = scripts.text_of("queue/errors")
    assert f"MOST_ERRORS, MOST_ERROR_BYTES = {attempt_errors.MOST_ERRORS}, {attempt_errors.MOST_BYTES}" in text
    assert f"MOST_FAILING = {attempt_errors.MOST_FAILING}" in text
