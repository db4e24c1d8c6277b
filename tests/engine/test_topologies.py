"""Sentinels, a Cluster and TLS: the same queue on all of them, and failovers of a master."""

from __future__ import annotations

import asyncio
import gc
import itertools
import secrets
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from taskfleet import BrokerConnectionError, ConfigurationError, TaskQueue
from taskfleet.runtime.claiming import wakeups
from taskfleet.settings import RedisSettings, Settings, WorkerSettings
from tests.engine.conftest import RunWorker, until
from tests.support import requirements
from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, binary_with_tls
from tests.support.redis_topologies import RedisCluster, SentinelTrio

QUEUES = ("high", "default", "low", "mail", "reports")


@pytest.fixture
async def connect() -> AsyncIterator[Any]:
    """Make queues from settings, and close them after the test."""
    queues: list[TaskQueue] = []

    def make(url: str | None = None, **redis: Any) -> TaskQueue:
        options = {"key_prefix": f"test-{secrets.token_hex(4)}", "command_timeout": 10.0, **redis}
        settings = Settings(
            redis=RedisSettings(**options),
            workers=WorkerSettings(heartbeat_interval=0.2, shutdown_grace_period=5),
        )
        queue = TaskQueue(url, settings=settings, queues=[{"name": name, "lease_seconds": 3} for name in QUEUES])
        queues.append(queue)
        return queue

    yield make
    for queue in queues:
        await queue.close()


async def goes_round(queue: TaskQueue, run_worker: RunWorker) -> None:
    """Run a task, a delayed one, a failed one and a workflow over several queues, and check their records."""

    @queue.task
    async def double(n: int) -> int:
        return 2 * n

    @queue.task(max_retries=0)
    async def fail() -> None:
        raise ValueError("no")

    worker = await run_worker(queue, queues=list(QUEUES))
    handles = [await double.options(queue=name, delay=n / 10).enqueue(n) for n, name in enumerate(QUEUES)]
    assert [await handle.result(timeout=60) for handle in handles] == [0, 2, 4, 6, 8]
    await fail.options(queue="mail").enqueue()
    await until(lambda: _dead(queue), "the failed task is dead")
    metrics = await queue.get_metrics()
    assert {name: metrics[name].finished_total for name in QUEUES} == {
        "high": 1, "default": 1, "low": 1, "mail": 2, "reports": 1,
    }  # fmt: skip
    await until(lambda: _registered(queue, worker.identity.worker_id), "the worker is registered")
    assert await queue.requeue_dead("mail") == 1
    await until(lambda: _dead(queue), "it is dead again")
    await queue.broker.purge_keys(list(QUEUES))
    assert await queue.broker.queues() == []
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")


async def _registered(queue: TaskQueue, worker_id: str) -> bool:
    return [info.worker_id for info in await queue.broker.workers()] == [worker_id]


async def _dead(queue: TaskQueue) -> bool:
    return (await queue.queue_stats("mail")).dead == 1


async def survives(queue: TaskQueue, run_worker: RunWorker, disturb: Any, *, tasks: int = 150) -> None:
    """Run tasks in all queues while `disturb()` runs. Every task ends, and none runs twice without a takeover."""
    ran: list[int] = []

    @queue.task(max_retries=0)
    async def note(n: int) -> int:
        ran.append(n)
        await asyncio.sleep(0.02)
        return n

    worker = await run_worker(queue, concurrency=4, queues=list(QUEUES))
    first = [await note.options(queue=QUEUES[n % 5]).enqueue(n) for n in range(tasks)]
    disturbance = asyncio.create_task(asyncio.to_thread(disturb))
    later = []
    for n in range(tasks, tasks + 50):
        later.append(await _patient(lambda n=n: note.options(queue=QUEUES[n % 5]).enqueue(n)))
        await asyncio.sleep(0.02)
    await disturbance
    results = [await _patient(lambda handle=handle: handle.result(timeout=60)) for handle in (*first, *later)]
    assert results == list(range(tasks + 50))
    metrics = await queue.get_metrics()
    taken_over = sum(
        [
            int(await queue.broker.client.redis.hget(queue.broker.keys_of(name).stat, "taken_over") or 0)
            for name in QUEUES
        ]
    )
    assert len(ran) - len(set(ran)) <= taken_over
    assert sum(stats.finished_total for stats in metrics.values()) == tasks + 50
    await until(lambda: worker.health.ready, "the worker is ready again")
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")


async def _patient(call: Any) -> Any:
    """Repeat a call while Redis has no master, like an application that can wait."""
    while True:
        try:
            return await call()
        except BrokerConnectionError:
            await asyncio.sleep(0.1)


# Sentinel.


@pytest.fixture(scope="module")
def sentinels() -> Iterator[SentinelTrio]:
    with SentinelTrio() as trio:
        yield trio


async def test_a_queue_behind_sentinels_by_url(sentinels: SentinelTrio, connect: Any, run_worker: RunWorker) -> None:
    await goes_round(connect(sentinels.url), run_worker)


async def test_a_queue_behind_sentinels_by_settings(
    sentinels: SentinelTrio, connect: Any, run_worker: RunWorker
) -> None:
    # The first Sentinel does not answer, so the others are asked.
    addresses = [f"127.0.0.1:{free_port()}", *sentinels.addresses]
    queue = connect(sentinel_addresses=addresses, sentinel_master="mymaster")
    assert queue.url == f"redis+sentinel://{','.join(addresses)}/mymaster"
    await goes_round(queue, run_worker)


async def test_sentinels_with_a_password_of_their_own(connect: Any, tmp_path: Path) -> None:
    secret = tmp_path / "sentinel"
    secret.write_text("hidden\n")
    with SentinelTrio(password="hidden") as trio:
        options = {"sentinel_addresses": trio.addresses, "sentinel_master": "mymaster"}
        assert await connect(**options, sentinel_password_file=secret).health_check()
        assert await connect(**options, sentinel_password="hidden").health_check()
        with pytest.raises(BrokerConnectionError, match="refuses the credentials"):
            await connect(**options, sentinel_password="wrong", command_timeout=5.0).health_check()


async def test_an_unknown_master_is_named(sentinels: SentinelTrio, connect: Any) -> None:
    queue = connect(sentinel_addresses=sentinels.addresses, sentinel_master="other", command_timeout=5.0)
    with pytest.raises(BrokerConnectionError) as caught:
        await queue.health_check()
    assert str(caught.value) == (
        f"cannot reach Redis at {', '.join(sentinels.addresses)} (master 'other'): "
        "the Sentinels know no master named 'other'; start it, or set REDIS_URL"
    )


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_ends_while_sentinels_are_asked_leaves_no_connection(
    sentinels: SentinelTrio, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """In whatever turn the call is cancelled, and is cancelled again by the end of the loop."""

    async def main(first: int, again: int) -> None:
        calls = [asyncio.ensure_future(TaskQueue(sentinels.url).queue_stats("default")) for _ in range(3)]
        for _ in range(first):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        for _ in range(again):
            await asyncio.sleep(0)

    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for turns in itertools.product(range(16), range(4)):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(main(*turns))
        gc.collect()
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []


async def test_work_survives_a_failover_by_sentinels(connect: Any, run_worker: RunWorker) -> None:
    with SentinelTrio() as trio:
        before = trio.master_port()

        def failover() -> None:
            trio.master.stop()
            trio.wait_for_other_master(before)

        # A dying master may lose writes that it has acknowledged last. Here the replica has confirmed all of them.
        trio.master.call("CONFIG", "SET", "min-replicas-to-write", "1")
        await survives(connect(trio.url), run_worker, failover)


async def test_a_master_that_was_demoted_is_left(connect: Any, run_worker: RunWorker) -> None:
    with SentinelTrio() as trio:
        before = trio.master_port()

        def failover() -> None:
            trio.sentinels[0].call("SENTINEL", "FAILOVER", "mymaster")
            trio.wait_for_other_master(before)

        await survives(connect(trio.url), run_worker, failover)


# Cluster.


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


async def test_a_queue_on_a_cluster_by_url(cluster: RedisCluster, connect: Any, run_worker: RunWorker) -> None:
    queue = connect(cluster.url)
    # The queues are on several servers.
    assert len({cluster.holder_of(queue.broker.keys_of(name).wake).port for name in QUEUES}) > 1
    await goes_round(queue, run_worker)


async def test_a_queue_on_a_cluster_by_settings(cluster: RedisCluster, connect: Any, run_worker: RunWorker) -> None:
    addresses = [f"127.0.0.1:{free_port()}", cluster.addresses[1]]
    await goes_round(connect(cluster_addresses=",".join(addresses)), run_worker)


async def test_a_worker_of_a_cluster_is_called_for_every_queue(
    cluster: RedisCluster, connect: Any, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_LOOK_AGAIN_SECONDS", 600.0)  # who is not called finds nothing in this test
    queue = connect(cluster.url)

    @queue.task
    async def task() -> None: ...

    worker = await run_worker(queue, queues=list(QUEUES))
    for name in QUEUES:
        await until(lambda: not worker.selection.hot(0.0), "it has found all queues empty")
        await (await task.options(queue=name).enqueue()).result(timeout=60)


async def test_work_survives_slots_that_move(cluster: RedisCluster, connect: Any, run_worker: RunWorker) -> None:
    queue = connect(cluster.url)

    def migrate() -> None:
        for name in QUEUES:
            wake = queue.broker.keys_of(name).wake
            holder = cluster.holder_of(wake)
            target = next(node for node in cluster.masters if node is not holder)
            cluster.move_slot(wake, target)

    await survives(queue, run_worker, migrate)


async def test_a_slot_that_is_half_moved_answers(cluster: RedisCluster, connect: Any) -> None:
    queue = connect(cluster.url)

    @queue.task
    async def task(n: int) -> int:
        return n

    await task.enqueue(1)
    names = queue.broker.keys_of("default")
    target = next(node for node in cluster.masters if node is not cluster.holder_of(names.wake))
    # The source has no keys of the queue left, so it redirects every call with ASK, to a connection that sent ASKING.
    await queue.broker.purge_keys(["default"])
    replies: list[int] = []

    async def use() -> None:
        await asyncio.gather(*(queue.broker.pause("default") for _ in range(20)))
        replies.append(await queue.broker.client.redis.hlen(names.control))

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(
        cluster.move_slot, names.wake, target, between=lambda: asyncio.run_coroutine_threadsafe(use(), loop).result(20)
    )
    assert replies == [1]
    assert cluster.holder_of(names.wake) is target
    assert (await queue.queue_stats("default")).paused


async def test_work_survives_the_death_of_a_cluster_master(connect: Any, run_worker: RunWorker) -> None:
    with RedisCluster(replicas=1) as cluster:
        queue = connect(cluster.url)
        holder = cluster.holder_of(queue.broker.keys_of("default").wake)

        def failover() -> None:
            # Writes that a master has acknowledged and no replica has are lost with it.
            cluster.wait_for_replicas()
            holder.stop()
            cluster.wait_for_other_holder(queue.broker.keys_of("default").wake, holder)

        for node in cluster.masters:
            node.call("CONFIG", "SET", "min-replicas-to-write", "1")
        await survives(queue, run_worker, failover)


async def test_a_server_that_is_no_cluster_is_named(connect: Any, server: RedisServer) -> None:
    queue = connect(f"redis+cluster://{server.address}")
    with pytest.raises(BrokerConnectionError) as caught:
        await queue.health_check()
    assert str(caught.value) == (
        f"Redis at {server.address} answers with an error: {server.address} is no Cluster; write redis://…"
    )


# TLS.


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture(scope="session")
def tls_program(request: pytest.FixtureRequest) -> str:
    program = binary_with_tls()
    if program is None:
        requirements.cannot_run(request.config, "TLS", "no Redis server here was built with TLS: install redis-server")
    return program


@pytest.fixture
def tls_server(certificates: Certificates, tls_program: str) -> Iterator[RedisServer]:
    server = RedisServer(program=tls_program)
    server.tls_port = free_port()
    server.add(*certificates.options(server.tls_port))
    with server:
        yield server


async def test_tls_with_a_client_certificate(
    tls_server: RedisServer, certificates: Certificates, connect: Any, run_worker: RunWorker
) -> None:
    await goes_round(connect(f"rediss://127.0.0.1:{tls_server.tls_port}/0", **certificates.settings()), run_worker)


@pytest.mark.parametrize("trust", ["ssl_ca_certs={tls_ca_file}", "ssl_cert_reqs=none"])
async def test_tls_by_the_options_of_a_url(
    tls_server: RedisServer, certificates: Certificates, connect: Any, run_worker: RunWorker, trust: str
) -> None:
    files = certificates.settings()
    options = f"{trust}&ssl_certfile={{tls_cert_file}}&ssl_keyfile={{tls_key_file}}&health_check_interval=1"
    url = f"rediss://127.0.0.1:{tls_server.tls_port}/0?{options.format(**files)}"
    await goes_round(connect(url), run_worker)


async def test_tls_errors_are_one_clear_line(
    tls_server: RedisServer, certificates: Certificates, connect: Any, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{tls_server.tls_port}"
    mine = certificates.settings()
    other = tmp_path / "other"
    other.mkdir()
    stranger = Certificates(other).ca

    async def error(**redis: Any) -> str:
        with pytest.raises(BrokerConnectionError) as caught:
            await connect(f"rediss://{address}/0", **{**mine, **redis}).health_check()
        return str(caught.value)

    check = "check tls_ca_file, tls_cert_file and tls_server_name"
    untrusted = f"no TLS with Redis at {address}: self-signed certificate in certificate chain; {check}"
    assert await error(tls_ca_file=stranger) == untrusted
    assert await error(tls_ca_file=None) == untrusted
    assert "hostname mismatch" in await error(tls_server_name="elsewhere.test")
    nowhere = tmp_path / "nowhere.pem"
    assert await error(tls_ca_file=nowhere) == (
        f"cannot log in to Redis at {address}: redis.tls_ca_file {nowhere}: no such file or directory"
    )
    assert await error(tls_cert_file=certificates.ca, tls_key_file=certificates.client_key) == (
        f"cannot log in to Redis at {address}: redis.tls_cert_file {certificates.ca}: "
        "no usable certificate or key (key values mismatch)"
    )
    await error(tls_cert_file=None, tls_key_file=None)


async def test_tls_by_another_name(tmp_path: Path, tls_program: str, connect: Any) -> None:
    certificates = Certificates(tmp_path, names=("redis.test",))
    server = RedisServer(program=tls_program)
    port = free_port()
    server.add(*certificates.options(port, clients=False))
    mine = certificates.settings(clients=False)
    with server:
        with pytest.raises(BrokerConnectionError, match="ip address mismatch"):
            await connect(f"rediss://127.0.0.1:{port}", **mine).health_check()
        assert await connect(f"rediss://127.0.0.1:{port}", **mine, tls_server_name="redis.test").health_check()
        assert await connect(f"redis://127.0.0.1:{port}", **mine, tls_check_hostname=False).health_check()


async def test_a_cluster_under_tls(
    tmp_path: Path, tls_program: str, connect: Any, run_worker: RunWorker, certificates: Certificates
) -> None:
    with RedisCluster(program=tls_program, tls=certificates) as cluster:
        queue = connect(f"rediss+cluster://127.0.0.1:{cluster.masters[0].tls_port}", **certificates.settings())
        await goes_round(queue, run_worker)


async def test_sentinels_under_tls(
    tls_program: str, connect: Any, run_worker: RunWorker, certificates: Certificates
) -> None:
    with SentinelTrio(program=tls_program, tls=certificates) as trio:
        hosts = [f"127.0.0.1:{sentinel.tls_port}" for sentinel in trio.sentinels]
        queue = connect(sentinel_addresses=hosts, sentinel_master="mymaster", **certificates.settings())
        await goes_round(queue, run_worker)


# Mistakes in settings.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://h", "Redis URL: scheme 'http' is not known"),
        ("redis://h:port", "Redis URL for host 'h': the port is not a number"),
        ("redis://a:1,b:2", "Redis URL: redis:// names one host"),
        ("redis+sentinel://a:1,b:2", "Redis URL: redis+sentinel:// needs the master's name"),
        ("redis+sentinel://a:1/m/x", "Redis URL: database 'x' is not a number"),
        ("redis+cluster://a:1/3", "Redis URL: a Cluster has no database but 0"),
        ("redis+cluster://a:99999", "Redis URL for host 'a': the port is not a number"),
    ],
)
def test_a_wrong_url_is_refused_at_once(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue(url)
    assert str(caught.value).startswith(message)


def test_a_url_with_a_secret_does_not_show_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        TaskQueue("redis://user:hidden@h:port")
    assert "hidden" not in str(caught.value)
