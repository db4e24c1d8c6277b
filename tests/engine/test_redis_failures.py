"""When Redis misbehaves: the errors that users see, and the work that continues."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from taskfleet import BrokerConnectionError, BrokerOutOfMemoryError, Retry, TaskQueue
from taskfleet.redis import enqueueing, scripts, subscription
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer, wait_until
from tests.support.redis_topologies import Replica


@pytest.fixture
async def durable() -> AsyncIterator[RedisServer]:
    """A server with an append-only file, which survives a restart."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
async def volatile() -> AsyncIterator[RedisServer]:
    """A server that loses its data when it ends."""
    with RedisServer() as server:
        yield server


@pytest.fixture
async def proxy(durable: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy in front of `durable`."""
    async with Proxy(durable.port) as proxy:
        yield proxy


@pytest.fixture
async def replica(durable: RedisServer) -> AsyncIterator[Replica]:
    with Replica(durable) as replica:
        yield replica


async def test_redis_down_at_enqueue_is_one_clear_line() -> None:
    server = RedisServer()
    queue = TaskQueue(f"redis://user:secret@127.0.0.1:{server.port}/0")

    @queue.task
    async def task() -> None: ...

    with pytest.raises(BrokerConnectionError) as caught:
        await task.enqueue()
    assert str(caught.value) == (
        f"cannot reach Redis at 127.0.0.1:{server.port}: connection refused; start it, or set REDIS_URL"
    )
    await queue.close()


async def test_work_goes_on_after_a_restart(durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(durable.url)
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.02)
        return n

    handles = await queue.enqueue_many([task.message(n) for n in range(200)])
    worker = await run_worker(queue, concurrency=4)
    await until(lambda: len(ran) > 10, "it works")
    durable.stop()
    await until(lambda: worker.health.failing_since is not None, "it noticed")
    durable.start()
    assert [await handle.result(timeout=30) for handle in handles] == list(range(200))


async def test_lost_scripts_and_killed_connections_are_not_noticed(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url)

    @queue.task
    async def task(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    await run_worker(queue, concurrency=4)
    other = TaskQueue(durable.url)
    redis = other.broker.client.redis
    handles = []
    for n in range(60):
        handles.append(await task.enqueue(n))
        if n % 10 == 3:
            await redis.script_flush()
        if n % 10 == 7:
            await redis.client_kill_filter(_type="normal", skipme=True)
            await redis.client_kill_filter(_type="pubsub")
    assert [await handle.result(timeout=25) for handle in handles] == list(range(60))
    await other.close()


# Sockets.


async def test_work_goes_on_when_sockets_are_cut(
    durable: RedisServer, proxy: Proxy, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(proxy.url)
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.01)
        return n

    await run_worker(queue, concurrency=4)
    handles = []
    for n in range(100):
        handles.append(await task.enqueue(n))
        if n % 20 == 7:
            proxy.cut()
    assert [await handle.result(timeout=25) for handle in handles] == list(range(100))
    assert len(ran) - 100 == await taken_over(queue)


async def test_scripts_that_are_lost_inside_a_pipeline_are_sent_again(
    durable: RedisServer, make_queue: MakeQueue
) -> None:
    queue = make_queue(durable.url)
    names = [f"q{n}" for n in range(20)]
    for name in names:
        await queue.broker.stats_many([name])
    durable.call("SCRIPT", "FLUSH")
    assert set(await queue.broker.stats_many(names)) == set(names)


async def test_a_lost_reply_to_enqueue_adds_its_task_once(
    durable: RedisServer, proxy: Proxy, make_queue: MakeQueue
) -> None:
    queue = make_queue(proxy.url)

    @queue.task
    async def task(n: int) -> None: ...

    await task.enqueue(0)
    proxy.lose_reply = once(scripts.ENQUEUE)
    await queue.enqueue_many([task.message(n) for n in range(50)])
    assert proxy.lost == 1
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.enqueued_total) == (51, 51)


async def test_lost_replies_to_a_worker_lose_nothing_and_run_nothing_twice(
    durable: RedisServer, proxy: Proxy, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(proxy.url, queues=[{"name": "default", "lease_seconds": 60}])
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.005)
        return n

    handles = await queue.enqueue_many([task.message(n) for n in range(300)])
    proxy.lose_reply = every(7, scripts.STEP)
    worker = await run_worker(queue, concurrency=5)
    # Leases last a minute, so the tasks claimed in a lost reply could not be taken over in this time.
    assert [await handle.result(timeout=30) for handle in handles] == list(range(300))
    assert proxy.lost >= 2
    assert sorted(ran) == list(range(300))
    proxy.lose_reply = lambda _: False
    await until(lambda: not worker.held, "all is recorded")
    stats = await queue.queue_stats("default")
    assert (stats.finished_total, stats.in_flight, stats.dead) == (300, 0, 0)


async def test_a_slow_network_is_only_slow(
    durable: RedisServer, proxy: Proxy, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    proxy.delay = 0.1
    queue = make_queue(proxy.url)

    @queue.task
    async def task(n: int) -> int:
        return n

    worker = await run_worker(queue)
    handles = await queue.enqueue_many([task.message(n) for n in range(20)])
    assert [await handle.result(timeout=25) for handle in handles] == list(range(20))
    assert worker.health.failing_since is None


async def test_a_server_that_stands_still_is_waited_for(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url, redis={"command_timeout": 4}, queues=[{"name": "default", "lease_seconds": 60}])
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.01)
        return n

    handles = await queue.enqueue_many([task.message(n) for n in range(200)])
    worker = await run_worker(queue, concurrency=4)
    await until(lambda: len(ran) > 10, "it works")
    durable.pause()
    try:
        await until(lambda: worker.health.failing_since is not None, "it noticed", seconds=60)
        with pytest.raises(BrokerConnectionError, match=r"cannot reach Redis at .*: no answer within 4 s"):
            await task.enqueue(0)
    finally:
        durable.go_on()
    assert [await handle.result(timeout=25) for handle in handles] == list(range(200))
    assert len(ran) == len(set(ran)) or sorted(ran) == sorted([*range(200), 0])


async def test_a_subscription_that_hears_nothing_asks_whether_it_stands(
    durable: RedisServer, proxy: Proxy, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "_QUIET_SECONDS", 0.1)
    queue = make_queue(proxy.url, redis={"command_timeout": 4})
    heard: list[str] = []
    asked = 0

    def ask(_request: bytes) -> bool:
        nonlocal asked
        asked += 1
        return False

    async def more(count: int) -> None:
        enough = asked + count
        await until(lambda: asked >= enough, "it asks whether the subscription stands")

    proxy.lose_reply = ask

    async def listen() -> None:
        async for message in queue.broker.listen("news"):
            heard.append(message)

    listening = asyncio.create_task(listen())
    await until(lambda: heard == [""], "subscribed")
    await more(3)
    assert heard == [""]  # silence alone is not a failure
    proxy.delay = 60  # the connections stay open without replies, as if the host were gone
    await more(2)  # the second, on a new connection, shows that the first has had no answer
    proxy.delay = 0
    await until(lambda: len(heard) > 1, "subscribed again")

    def hears() -> bool:
        durable.call("PUBLISH", "news", "hello")  # again, as it may have made several attempts to subscribe
        return "hello" in heard

    await until(hears, "heard")
    assert set(heard) == {"", "hello"}
    listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listening


async def test_outcomes_wait_until_redis_is_back(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url, queues=[{"name": "default", "lease_seconds": 30}])
    release = asyncio.Event()
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await release.wait()
        return n

    handles = await queue.enqueue_many([task.message(n) for n in range(4)])
    worker = await run_worker(queue, concurrency=4)
    await until(lambda: len(ran) == 4, "all run")
    durable.stop()
    release.set()
    await until(lambda: not worker.slots.running and worker.health.failing_since, "all have ended, and Redis is away")
    assert len(worker.held) == 4
    durable.start()
    assert [await handle.result(timeout=25) for handle in handles] == [0, 1, 2, 3]
    assert ran == [0, 1, 2, 3]
    assert worker.tally.lost_acks == 0


async def test_a_worker_without_redis_says_that_it_is_not_ready_and_goes_on_trying(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(durable.url)

    @queue.task
    async def task() -> int:
        return 1

    worker = await run_worker(queue)
    assert worker.health.ready
    durable.stop()
    await until(lambda: not worker.health.ready, "it is not ready", seconds=25)
    assert worker.health.alive
    assert worker.health.why_not_ready() == f"no answer from Redis at 127.0.0.1:{durable.port}"
    # The worker logs it, but not at every attempt.
    warnings = [record for record in caplog.records if record.name == "taskfleet.worker"]
    assert 1 <= len([record for record in warnings if "cannot reach Redis" in record.getMessage()]) < 10
    durable.start()
    assert await (await task.enqueue()).result(timeout=25) == 1
    await until(lambda: worker.health.ready, "it is ready")


async def test_a_drain_ends_without_redis_when_the_leases_have_ended(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url, grace=0.1, queues=[{"name": "default", "lease_seconds": 1}])

    @queue.task
    async def task() -> None:
        await asyncio.sleep(60)

    worker = await run_worker(queue)
    await task.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    durable.stop()
    worker.drain()
    await until(lambda: worker.health.stopped, "it has ended")


# Lost data.


async def test_an_ack_of_a_task_that_redis_has_lost_is_counted(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url, heartbeat=60)
    release = asyncio.Event()

    @queue.task
    async def hold() -> int:
        await release.wait()
        return 1

    worker = await run_worker(queue)
    await hold.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    durable.call("FLUSHALL")
    release.set()
    await until(lambda: not worker.held, "the outcome is sent")
    assert worker.tally.lost_acks == 1
    assert await (await hold.enqueue()).result(timeout=25) == 1


async def test_a_queue_is_listed_again_after_redis_has_lost_it(
    durable: RedisServer, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueueing, "_KNOWN_SECONDS", 0.2)
    queue = make_queue(durable.url)

    @queue.task
    async def task() -> None: ...

    await task.enqueue()
    durable.call("FLUSHALL")

    async def listed() -> bool:
        await task.enqueue()
        return "default" in await queue.get_metrics()

    await until(listed, "it is listed")


async def test_a_replica_that_was_behind_takes_over(
    durable: RedisServer, replica: Replica, proxy: Proxy, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(proxy.url, queues=[{"name": "default", "lease_seconds": 2}])
    release = asyncio.Event()
    ran: list[int] = []

    @queue.task
    async def task(n: int) -> int:
        ran.append(n)
        await release.wait()
        return n

    old = await queue.enqueue_many([task.message(n) for n in range(3)])
    await asyncio.to_thread(wait_until, lambda: durable.call("WAIT", 1, 1000) == 1, "the replica has them")
    replica.call("REPLICAOF", "NO", "ONE")
    # The replica gets neither these tasks nor any claim.
    await queue.enqueue_many([task.message(n) for n in range(3, 6)])
    worker = await run_worker(queue, concurrency=6)
    await until(lambda: set(ran) == set(range(6)), "all run")
    proxy.target = replica.port
    durable.stop()
    proxy.cut()
    release.set()
    # Nothing crashes. All tasks that the new master knows are done, some of them a second time.
    assert [await handle.result(timeout=25) for handle in old] == [0, 1, 2]
    await until(lambda: not worker.held, "nothing is held")
    assert await (await task.enqueue(9)).result(timeout=25) == 9


# A server that is not the master.


async def test_a_master_that_becomes_a_replica_is_left(
    durable: RedisServer, replica: Replica, proxy: Proxy, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(proxy.url)

    @queue.task
    async def task(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    worker = await run_worker(queue, concurrency=4)
    first = await queue.enqueue_many([task.message(n) for n in range(100)])
    await asyncio.to_thread(wait_until, lambda: durable.call("WAIT", 1, 1000) == 1, "the replica is in step")
    # The address leads to the new master, but all connections to the old one are still open.
    proxy.target = replica.port
    replica.call("REPLICAOF", "NO", "ONE")
    durable.call("REPLICAOF", "127.0.0.1", str(replica.port))
    later = [await task.enqueue(n) for n in range(100, 110)]
    results = [await handle.result(timeout=30) for handle in later]
    assert results == list(range(100, 110))
    await until(lambda: not worker.held, "nothing is held")
    for n, handle in enumerate(first):
        # Writes that the old master acknowledged after the last replication are lost.
        if await handle.status() != "unknown":
            assert await handle.result(timeout=30) == n


async def test_too_few_replicas_are_waited_for(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url, redis={"command_timeout": 4})

    @queue.task
    async def task(n: int) -> int:
        return n

    worker = await run_worker(queue)
    assert await (await task.enqueue(1)).result(timeout=25) == 1
    durable.call("CONFIG", "SET", "min-replicas-to-write", "1")
    with pytest.raises(BrokerConnectionError, match=r"answers with an error: .*NOREPLICAS"):
        await task.enqueue(2)
    await until(lambda: worker.health.failing_since is not None, "the worker is refused")
    durable.call("CONFIG", "SET", "min-replicas-to-write", "0")
    assert await (await task.enqueue(3)).result(timeout=25) == 3


async def test_a_server_that_loads_is_waited_for(
    volatile: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(volatile.url, redis={"command_timeout": 60})

    @queue.task
    async def task(n: int) -> int:
        return n

    worker = await run_worker(queue)
    fill = "for i = 1, 600 do redis.call('SETEX', 'filler' .. i, 300, string.rep('x', 2000)) end"
    volatile.call("CONFIG", "SET", "rdbcompression", "no")
    volatile.call("EVAL", fill, 0)
    volatile.call("SAVE")
    volatile.stop()
    # It sleeps at every key, and answers in between, until the test has seen what it needs.
    volatile.add("--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024")
    volatile.start(wait_for_data=False)
    sending = asyncio.create_task(task.enqueue(2))

    def refused() -> bool:
        refusals = volatile.info("errorstats")["errorstat_LOADING"]["count"]
        return int(refusals) > 1  # the first was the PING of `start`

    await until(refused, "a call was refused")
    volatile.call("CONFIG", "SET", "key-load-delay", "0")
    assert await (await sending).result(timeout=60) == 2
    assert worker.health.failing_since is None


# Memory.


async def test_out_of_memory_producers_are_told_and_running_work_is_recorded(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(durable.url)
    release = asyncio.Event()
    ran: list[int] = []

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def task(n: int) -> int:
        ran.append(n)
        await release.wait()
        if n == 1 and ran.count(1) == 1:
            raise ValueError("a retry writes more than it frees")
        return n

    worker = await run_worker(queue, concurrency=2)
    handles = await queue.enqueue_many([task.message(n) for n in range(4)])
    await until(lambda: len(ran) == 2, "two run, two wait")
    durable.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(BrokerOutOfMemoryError) as caught:
        await task.enqueue(5)
    assert str(caught.value) == (
        f"Redis at 127.0.0.1:{durable.port} is out of memory and accepts nothing new: raise maxmemory, drain or purge "
        "queues, or keep results for a shorter time"
    )
    ends = await lease_ends(queue)

    async def renewed() -> bool:
        now = await lease_ends(queue)
        return all(now[task_id] > end for task_id, end in ends.items())

    await until(renewed, "the leases are renewed")
    assert len(worker.slots.running) == len(ends) == 2
    release.set()
    await until(lambda: not worker.held, "both are recorded")
    await until(lambda: worker.health.memory_full, "the worker knows")
    assert await handles[0].result(timeout=25) == 0
    await asyncio.sleep(1.5)
    assert sorted(ran) == [0, 1]  # nothing was claimed
    assert worker.health.failing_since is None
    assert worker.tally.lost_acks == 0
    assert len(await queue.broker.workers()) == 1
    assert await handles[3].cancel()
    durable.call("CONFIG", "SET", "maxmemory", "0")
    assert [await handle.result(timeout=25) for handle in handles[:3]] == [0, 1, 2]
    assert not worker.health.memory_full


# Credentials.


async def test_a_rotated_password_is_read_again(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("first\n")
    durable.call("ACL", "SETUSER", "app", "on", ">first", "~*", "&*", "+@all")
    queue = make_queue(durable.url, redis={"username": "app", "password_file": secret, "command_timeout": 4})

    @queue.task
    async def task(n: int) -> int:
        return n

    worker = await run_worker(queue)
    assert await (await task.enqueue(1)).result(timeout=25) == 1
    durable.call("ACL", "SETUSER", "app", "resetpass", ">second")
    durable.call("CLIENT", "KILL", "USER", "app")
    with pytest.raises(BrokerConnectionError, match="refuses the credentials: check user name and password"):
        await task.enqueue(2)
    await until(lambda: worker.health.failing_since is not None, "the worker is refused")
    # During a rotation, the file may be missing for a moment.
    secret.unlink()
    with pytest.raises(BrokerConnectionError) as caught:
        await task.enqueue(2)
    assert str(caught.value) == (
        f"cannot log in to Redis at 127.0.0.1:{durable.port}: redis.password_file {secret}: no such file or directory"
    )
    secret.write_text("second\n")
    assert await (await task.enqueue(3)).result(timeout=25) == 3


async def test_a_user_whose_rights_come_back_works_on(
    durable: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    durable.call("ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all")
    queue = make_queue(durable.url, redis={"username": "app", "password": "any", "command_timeout": 4})

    @queue.task
    async def task(n: int) -> int:
        return n

    worker = await run_worker(queue)
    durable.call("ACL", "SETUSER", "app", "-evalsha", "-eval")
    with pytest.raises(BrokerConnectionError, match="does not permit this to our user"):
        await task.enqueue(2)
    await until(lambda: worker.health.failing_since is not None, "the worker is refused")
    durable.call("ACL", "SETUSER", "app", "+evalsha", "+eval")
    assert await (await task.enqueue(3)).result(timeout=25) == 3


async def taken_over(queue: TaskQueue) -> int:
    """The number of leases of the default queue that have ended without an outcome."""
    return int(await queue.broker.client.redis.hget(queue.broker.keys_of("default").stat, "taken_over") or 0)


async def lease_ends(queue: TaskQueue) -> dict[bytes, float]:
    """When the leases of the running tasks end, by id."""
    return dict(await queue.broker.client.redis.zrange(queue.broker.keys_of("default").lease, 0, -1, withscores=True))


def once(script: scripts.Script) -> Callable[[bytes], bool]:
    """Lose the reply to the next call of `script`."""
    left = [1]

    def lose(request: bytes) -> bool:
        if left and script.digest.encode() in request:
            left.pop()
            return True
        return False

    return lose


def every(nth: int, script: scripts.Script) -> Callable[[bytes], bool]:
    """Lose the reply to every `nth` call of `script`."""
    calls = itertools.count(1)
    return lambda request: script.digest.encode() in request and next(calls) % nth == 0
