"""The routes that show figures: each is compared with what Redis and the operating system say themselves."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from taskfleet import QueueOptions, TaskQueue, TaskQueueBuilder
from taskfleet.integrations.fastapi import router
from taskfleet.integrations.observing import recent
from taskfleet.redis import acl
from taskfleet.version import __version__
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.integrations.conftest import MakeClient
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import RedisCluster


def app_of(queue: TaskQueue, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(router(queue, **options))
    return app


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that no other test uses, so that its figures are those of this test."""
    with RedisServer() as server:
        yield server


def seconds_ago(moment: str) -> float:
    return time.time() - datetime.fromisoformat(moment).timestamp()


async def test_the_figures_of_queues_are_those_of_redis(
    make_queue: MakeQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    queue = make_queue(queues=[QueueOptions("mail", max_length=50), "empty"])

    @queue.task(queue="mail", max_retries=0)
    async def send(to: str) -> None:
        if to == "nobody":
            raise ValueError(to)
        await asyncio.sleep(0.02)

    client = client_of(app_of(queue))
    worker = await run_worker(queue)
    for to in ("a", "b", "nobody"):
        await (await send.enqueue(to)).status()
    await until(lambda: _ended(queue, "mail", 3), "three tasks have ended")
    worker.drain()
    await until(lambda: _workers(queue, 0), "the worker is gone")
    await send.options(delay=1000).enqueue("later")
    await send.enqueue("now")
    await queue.pause("mail")
    report = {each["name"]: each for each in (await client.get("/tasks/metrics/queues")).json()["queues"]}
    assert list(report) == ["empty", "mail"]
    stats, mail = await queue.queue_stats("mail"), report["mail"]
    assert mail.pop("busy_seconds_total") == stats.busy_ms_total / 1000 > 0
    assert mail.pop("oldest_age_seconds") == pytest.approx(stats.oldest_age_seconds, abs=30)
    assert mail == {
        "name": "mail", "paused": True, "ready": 1, "in_flight": 0, "delayed": 1, "due": 0, "parked": 0, "blocked": 0,
        "dead": 1, "enqueued_total": 5, "finished_total": 3, "failed_total": 1, "attempts_total": 3, "max_length": 50,
        "workers": 0,
    }  # fmt: skip
    assert (report["empty"]["ready"], report["empty"]["oldest_age_seconds"], report["empty"]["max_length"]) == (
        0,
        None,
        None,
    )
    performance = (await client.get("/tasks/metrics/performance")).json()
    of_mail = performance["queues"][1]
    assert of_mail["lifetime_mean_run_seconds"] == stats.busy_ms_total / 1000 / 3
    assert of_mail["lifetime_success_ratio"] == pytest.approx(2 / 3)
    assert performance["window_seconds"] is None
    assert {of_mail[name] for name in of_mail if name.endswith("per_second")} == {None}
    status = (await client.get("/tasks/status")).json()
    assert status["backlog"] == {
        "queues": 2, "ready": 1, "in_flight": 0, "delayed": 1, "blocked": 0, "dead": 1, "paused": ["mail"],
    }  # fmt: skip
    assert status["version"] == __version__


async def _ended(queue: TaskQueue, name: str, count: int) -> bool:
    return (await queue.queue_stats(name)).finished_total == count


async def _workers(queue: TaskQueue, count: int) -> bool:
    return len(await queue.workers()) == count


async def test_rates_are_those_of_the_window(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "_LEAST_SECONDS", 0.0)

    @queue.task(max_retries=0)
    async def send(to: str) -> None:
        if to == "nobody":
            raise ValueError(to)

    await run_worker(queue)
    client = client_of(app_of(queue, thresholds={"success_ratio": 0.9}))
    await send.enqueue("before")
    await until(lambda: _ended(queue, "default", 1), "it has ended")
    await client.get("/tasks/metrics/performance")
    began = time.monotonic()
    for to in ("a", "b", "c", "nobody"):
        await send.enqueue(to)
    await until(lambda: _ended(queue, "default", 5), "all have ended")
    report = (await client.get("/tasks/metrics/performance")).json()
    window, (of_queue,) = report["window_seconds"], report["queues"]
    assert 0 < window < time.monotonic() - began + 5
    assert of_queue["enqueued_per_second"] == pytest.approx(4 / window)
    assert of_queue["finished_per_second"] == pytest.approx(4 / window)
    assert of_queue["failed_per_second"] == pytest.approx(1 / window)
    assert of_queue["success_ratio"] == 0.75
    sla = (await client.get("/tasks/sla")).json()
    assert sla["met"] is False
    assert [(each["objective"], each["value"], each["met"]) for each in sla["objectives"]] == [
        ("start_within_seconds", None, True),
        ("success_ratio", 0.75, False),
    ]
    alerts = (await client.get("/tasks/alerts")).json()
    assert [(each["rule"], each["queue"], each["value"]) for each in alerts["alerts"]] == [
        ("dead_letters_growing", "default", 1.0)
    ]
    assert alerts["unknown"] == []


async def test_the_workers_are_those_of_the_heartbeats(
    queue: TaskQueue, run_worker: RunWorker, client_of: MakeClient
) -> None:
    release = asyncio.Event()

    @queue.task
    async def wait() -> None:
        await release.wait()

    client = client_of(app_of(queue))
    worker = await run_worker(queue)

    async def report() -> Any:
        return (await client.get("/tasks/metrics/workers")).json()

    idle = await until(lambda: _idle(report), "it is idle")
    assert idle["workers"][0]["oldest_run_seconds"] is None
    await wait.enqueue()
    busy = await until(lambda: _busy(report), "its heartbeat says that it is busy")
    (one,) = busy["workers"]
    assert (one["name"], one["pid"], one["queues"], one["slots"], one["state"]) == (
        worker.identity.name, os.getpid(), ["default"], 8, "running",
    )  # fmt: skip
    assert (one["idle_seconds"], one["version"]) == (None, __version__)
    assert 0 <= seconds_ago(one["started_at"]) < 60
    assert busy["total"] == {"live": 1, "draining": 0, "slots": 8, "busy": 1, "stuck": 0, "here": 0}
    # A worker that is to leave claims nothing more, so that nobody takes the queue.
    await queue.broker.cordon(worker.identity.name, ttl_seconds=60)
    await until(lambda: _leaving(report), "its heartbeat says that it is cordoned")
    (of_queue,) = (await client.get("/tasks/metrics/queues")).json()["queues"]
    assert (of_queue["in_flight"], of_queue["workers"]) == (1, 0)
    alerts = (await client.get("/tasks/alerts")).json()["alerts"]
    assert [(each["rule"], each["queue"]) for each in alerts] == [("no_worker", "default")]
    release.set()


async def _idle(report: Any) -> Any:
    found = await report()
    return found if found["workers"] and found["workers"][0]["idle_seconds"] else None


async def _leaving(report: Any) -> bool:
    return bool((await report())["total"]["draining"] == 1)


async def _busy(report: Any) -> Any:
    found = await report()
    return found if found["total"]["busy"] and found["workers"][0]["oldest_run_seconds"] else None


async def test_this_process_and_redis_describe_themselves(
    make_queue: MakeQueue, client_of: MakeClient, own_server: RedisServer
) -> None:
    own_server.call("CONFIG", "SET", "maxmemory", "100mb")
    queue = make_queue(own_server.url)
    client = client_of(app_of(queue))
    report = (await client.get("/tasks/metrics/system")).json()
    process, (server,) = report["process"], report["redis"]
    told = own_server.info("everything")
    assert (process["pid"], report["cpu_count"]) == (os.getpid(), os.cpu_count())
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert process["memory_bytes"] == pytest.approx(resident, rel=0.1)
    assert process["peak_memory_bytes"] == pytest.approx(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rel=0.1
    )
    started = Path("/proc/self").stat().st_ctime  # when /proc made the entry, with the process or a little later
    assert datetime.fromisoformat(process["started_at"]).timestamp() == pytest.approx(started, abs=600)
    assert process["uptime_seconds"] == pytest.approx(seconds_ago(process["started_at"]), abs=30)
    assert 0 < process["cpu_seconds"] <= time.process_time()
    assert server["address"] == own_server.address
    assert server["version"] == str(told.get("valkey_version", told["redis_version"]))
    assert server["memory_bytes"] == pytest.approx(told["used_memory"], rel=0.2)
    assert server["memory_limit_bytes"] == 100 * 1024 * 1024
    assert server["memory_ratio"] == server["memory_bytes"] / server["memory_limit_bytes"]
    assert (server["memory_policy"], server["role"], server["evicted_keys"]) == ("noeviction", "master", 0)
    assert server["connected_clients"] >= 1
    assert server["persistent"] is False
    memory = (await client.get("/tasks/metrics/memory")).json()
    assert memory["redis"][0]["memory_limit_bytes"] == server["memory_limit_bytes"]
    uptime = (await client.get("/tasks/uptime")).json()
    assert uptime["started_at"] == process["started_at"]
    assert uptime["redis_uptime_seconds"][0] == pytest.approx(told["uptime_in_seconds"], abs=30)
    assert uptime["oldest_worker_started_at"] is None
    assert 0 <= uptime["router_seconds"] < 60


async def test_redis_without_a_limit_has_a_null_and_persistence_is_told(
    make_queue: MakeQueue, client_of: MakeClient
) -> None:
    with RedisServer("--appendonly", "yes") as server:
        client = client_of(app_of(make_queue(server.url)))
        (report,) = (await client.get("/tasks/metrics/memory")).json()["redis"]
        assert (report["memory_limit_bytes"], report["memory_ratio"]) == (None, None)
        assert report["persistent"] is True
    with RedisServer() as server:
        client = client_of(app_of(make_queue(server.url)))

        async def persistent() -> Any:
            (report,) = (await client.get("/tasks/metrics/memory")).json()["redis"]
            return report["persistent"]

        assert await persistent() is False

        async def saved() -> Any:
            server.call("SAVE")  # in the first second, it cannot be told from the start
            return await persistent()

        await until(saved, "it has saved a snapshot")


async def test_the_servers_of_a_cluster_each_have_a_report(make_queue: MakeQueue, client_of: MakeClient) -> None:
    with RedisCluster() as cluster:
        client = client_of(app_of(make_queue(cluster.url)))
        report = (await client.get("/tasks/metrics/memory")).json()
        assert {each["address"] for each in report["redis"]} == {each.address for each in cluster.masters}
        diagnostics = (await client.get("/tasks/diagnostics")).json()
        assert diagnostics["clock_ahead_seconds"] == pytest.approx(0, abs=60)


@pytest.mark.parametrize("may_ask", [False, True])
async def test_a_producer_is_told_everything_but_info_which_needs_a_permission_of_its_own(
    make_queue: MakeQueue, client_of: MakeClient, run_worker: RunWorker, own_server: RedisServer, may_ask: bool
) -> None:
    plain = make_queue(own_server.url)
    more = ["+info"] if may_ask else []
    own_server.call("ACL", "SETUSER", "web", "on", ">pass", *acl.rule("producer", plain.broker.prefix), *more)
    queue = make_queue(own_server.url.replace("redis://", "redis://web:pass@"))
    await run_worker(plain)

    @queue.task(queue="other")
    async def send() -> None: ...

    client = client_of(app_of(queue))
    accepted = await client.post("/tasks/send")
    assert accepted.status_code == 202, accepted.text
    assert (await client.get(accepted.json()["status_url"])).json()["status"] == "ready"
    for path in ("health", "status", "sla", "uptime"):
        assert (await client.get(f"/tasks/{path}")).status_code == 200, path
    report = (await client.get("/tasks/metrics")).json()
    assert [each["ready"] for each in report["queues"]["queues"]] == [1]
    assert len(report["workers"]["workers"]) == 1
    alerts = (await client.get("/tasks/alerts")).json()
    unknown = {each["rule"] for each in alerts["unknown"]} - {"dead_letters_growing"}
    diagnostics = (await client.get("/tasks/diagnostics")).json()
    assert diagnostics["redis_address"] == own_server.address
    assert diagnostics["clock_ahead_seconds"] == pytest.approx(0, abs=60)
    if may_ask:
        assert (unknown, report["system"]["redis_unknown"]) == (set(), None)
    else:
        assert unknown == {"redis_memory", "redis_eviction"}
        assert report["system"]["redis"] is None
        assert "does not permit" in report["system"]["redis_unknown"]
        assert "pass" not in report["system"]["redis_unknown"]


async def test_health_is_503_while_redis_is_away(make_queue: MakeQueue, client_of: MakeClient) -> None:
    with RedisServer() as server:
        client = client_of(app_of(make_queue(server.url), health_timeout=20))
        healthy = await client.get("/tasks/health")
        assert (healthy.status_code, healthy.json()["status"]) == (200, "healthy")
        assert healthy.json()["redis"]["latency_ms"] > 0
        server.stop()
        sick = await client.get("/tasks/health")
        assert (sick.status_code, sick.json()["status"]) == (503, "unhealthy")
        assert sick.json()["redis"]["latency_ms"] is None
        assert server.address in sick.json()["redis"]["error"]
        for path in ("status", "metrics", "metrics/queues", "metrics/workers", "metrics/performance", "sla", "uptime"):
            answer = await client.get(f"/tasks/{path}")
            assert (answer.status_code, list(answer.json())) == (503, ["detail"]), path
        alerts = await client.get("/tasks/alerts")
        assert alerts.status_code == 200
        assert [(each["rule"], each["severity"]) for each in alerts.json()["alerts"]] == [
            ("redis_unreachable", "critical")
        ]
        assert len(alerts.json()["unknown"]) == 9
        for path in ("registry", "metrics/autoscaler", "metrics/system", "metrics/memory"):
            assert (await client.get(f"/tasks/{path}")).status_code == 200, path


async def test_health_does_not_wait_for_a_redis_that_hangs(make_queue: MakeQueue, client_of: MakeClient) -> None:
    with RedisServer() as server:
        queue = make_queue(server.url)
        client = client_of(app_of(queue, health_timeout=4))
        await until(lambda: _is_healthy(client), "it is healthy")
        server.pause()
        try:
            answer = await client.get("/tasks/health")
        finally:
            server.go_on()
        assert answer.status_code == 503
        assert answer.json()["redis"]["error"] == f"Redis at {server.address} has not answered in 4 s"
        await until(lambda: _is_healthy(client), "it is healthy again")


async def _is_healthy(client: Any) -> bool:
    return (await client.get("/tasks/health")).status_code == 200


async def test_alerts_of_a_real_queue(make_queue: MakeQueue, client_of: MakeClient, own_server: RedisServer) -> None:
    queue = make_queue(own_server.url, queues=[QueueOptions("default", max_length=2)])

    @queue.task
    async def send() -> None: ...

    client = client_of(app_of(queue, thresholds={"start_within_seconds": 0.001}))

    async def found() -> set[str]:
        return {each["rule"] for each in (await client.get("/tasks/alerts")).json()["alerts"]}

    assert await found() == set()
    await send.enqueue()
    await send.enqueue()
    await queue.pause("default")
    await until(lambda: _has(found, {"oldest_task", "no_worker", "queue_full", "paused"}), "four rules do not hold")
    # So much that what connections take meanwhile, and give back, is no share of it, and nothing has to be evicted.
    own_server.call("SETRANGE", "padding", 50_000_000, "x")  # which no buffer of a client has held
    limit = int(own_server.info("memory")["used_memory"] * 1.05)
    own_server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", limit)
    assert await found() >= {"redis_memory", "redis_eviction"}
    own_server.call("CONFIG", "SET", "maxmemory", 0)
    ready = queue.broker.keys_of("default").ready
    own_server.call("DEL", ready)
    own_server.call("SET", ready, "odd")
    answer = (await client.get("/tasks/alerts")).json()
    assert "queue_unreadable" in {each["rule"] for each in answer["alerts"]}
    diagnostics = (await client.get("/tasks/diagnostics")).json()
    assert list(diagnostics["unreadable"]) == ["default"]


async def _has(found: Any, rules: set[str]) -> bool:
    return rules <= await found()


async def test_diagnostics_of_queues_and_versions(
    queue: TaskQueue, make_queue: MakeQueue, client_of: MakeClient
) -> None:
    other = make_queue()

    @other.task(queue="of_another_program")
    async def send() -> None: ...

    await send.enqueue()
    queue.application.options_of("mail")
    report = (await client_of(app_of(queue)).get("/tasks/diagnostics")).json()
    assert report["undeclared_queues"] == ["of_another_program"]
    assert [each["name"] for each in report["queue_options"]] == ["mail"]
    assert report["queue_options"][0]["dead_letter"]["max_length"] == 10_000
    assert report["key_prefix"] == queue.broker.prefix
    assert report["clock_ahead_seconds"] == pytest.approx(0, abs=60)
    assert report["other_versions"] == {}


async def test_the_registry_describes_every_task(queue: TaskQueue, client_of: MakeClient) -> None:
    @queue.task(queue="mail", max_retries=5, timeout=None)
    def send(to: str) -> None:
        """Send
        an email.

        More.
        """

    report = (await client_of(app_of(queue, tasks=[send])).get("/tasks/registry")).json()
    assert report == {
        "count": 1,
        "tasks": [
            {
                "name": "send", "kind": "function", "queue": "mail", "max_retries": 5, "timeout_seconds": None,
                "executor": "thread", "description": "Send an email.", "path": "/send", "unavailable": None,
                "defined_in": f"{__name__}.test_the_registry_describes_every_task.<locals>.send",
                "arguments": {
                    "title": "SendArguments", "type": "object", "required": ["to"], "additionalProperties": False,
                    "properties": {"to": {"title": "To", "type": "string"}},
                },
            }
        ],
    }  # fmt: skip


async def test_the_autoscaler_of_this_process(shared: TaskQueue, client_of: MakeClient) -> None:
    queue = TaskQueueBuilder().with_autoscaler(min_workers=2, max_workers=4).initial_workers(2).build()
    client = client_of(app_of(queue))
    idle = (await client.get("/tasks/metrics/autoscaler")).json()
    assert (idle["running"], idle["workers"], idle["min_workers"]) == (False, 0, None)
    async with queue:
        queue.local_workers().retire(1)  # below the minimum, so that it decides at once

        async def decided() -> Any:
            report = (await client.get("/tasks/metrics/autoscaler")).json()
            return report if report["last_change"] else None

        report = await until(decided, "the autoscaler has decided")
        assert (report["running"], report["min_workers"], report["max_workers"]) == (True, 2, 4)
        assert (report["last_change"], report["last_reason"]) == (1, "min_workers=2")
        assert report["workers"] >= 2


async def test_queues_in_memory_have_no_servers(client_of: MakeClient) -> None:
    queue = TaskQueue("memory://figures")
    report = (await client_of(app_of(queue)).get("/tasks/metrics")).json()
    assert (report["system"]["redis"], report["system"]["redis_unknown"]) == ([], None)
    await queue.close()
