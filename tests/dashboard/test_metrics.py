"""`/metrics`: what the dashboard itself does, and for who may look the queues, the fleet and Redis."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from taskfleet import TaskQueue
from taskfleet_dashboard.access.tokens import TokenAccess
from taskfleet_dashboard.events import hub
from tests.dashboard.conftest import MakeSite, Site
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer

TOKEN = "a-token-of-some-length"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(site: Site, **headers: str) -> Samples:
    response = await site.client.get("/metrics", headers=headers)
    assert response.status_code == 200, response.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"taskfleet_{name}", frozenset(labels.items())


async def fill(queue: TaskQueue, name: str, tasks: int = 1) -> None:
    @queue.task(name="noop", queue=name)
    async def noop() -> None: ...

    for _ in range(tasks):
        await noop.enqueue()


async def test_a_scrape_has_the_queues_the_fleet_and_redis(queue: TaskQueue, site: Site, run_worker: RunWorker) -> None:
    await fill(queue, "shop", 3)
    found = await scrape(site)
    assert found[key("queue_ready", queue="shop")] == 3
    assert found[key("queue_enqueued_total", queue="shop")] == 3
    assert found[key("queue_workers", queue="shop")] == 0
    (address,) = [dict(labels)["redis"] for name, labels in found if name == "taskfleet_redis_up"]
    assert found[key("redis_up", redis=address)] == 1
    assert any(value > 0 for (name, _), value in found.items() if name == "taskfleet_redis_used_bytes")
    await run_worker(queue)

    async def ended() -> bool:
        found = await scrape(site)
        return (
            found[key("queue_finished_total", queue="shop")] == 3
            and found[key("queue_workers", queue="shop")] == 1
            and found[key("fleet_workers", state="running")] == 1
        )

    await until(ended, "a scrape has the ended tasks and the worker")


async def test_requests_count_by_route_and_status_and_their_commands_too(queue: TaskQueue, site: Site) -> None:
    await fill(queue, "shop")
    before = await scrape(site)
    for _ in range(3):
        await site.get("queues/shop")
    assert (await site.refused("queues/none"))[0] == 404
    assert (await site.client.get("/any/page")).status_code in (200, 503)
    assert (await site.client.get("/", headers={"Host": "evil.example"})).status_code == 421
    found = await scrape(site)
    route = "/api/queues/{queue}"
    assert found[key("dashboard_requests_total", route=route, status="200")] == 3
    assert found[key("dashboard_requests_total", route=route, status="404")] == 1
    assert found[key("dashboard_requests_total", route="none", status="421")] == 1
    assert found[key("dashboard_requests_total", route="/metrics", status="200")] == 1
    assert not any("any/page" in str(labels) for _, labels in found), "a path that anybody can invent is no label"
    asked = key("dashboard_redis_commands_total", purpose="request")
    assert found[asked] > before[asked]
    assert found[key("dashboard_redis_commands_total", purpose="recorder")] == 0


async def test_the_commands_of_the_recorder_count(queue: TaskQueue, make_site: MakeSite) -> None:
    await fill(queue, "shop")
    site = await make_site(queue, records=True)

    async def recorded() -> bool:
        return (await scrape(site))[key("dashboard_redis_commands_total", purpose="recorder")] > 1

    await until(recorded, "the recorder has sent commands")


async def test_streams_and_topics_are_told_and_what_was_refused(
    queue: TaskQueue, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(queue, "shop")
    stream = await site.stream("queue:shop,workers")
    await stream.event("queue:shop")
    await stream.event("workers")
    monkeypatch.setattr(hub, "MOST_STREAMS", 1)
    assert (await site.refused("events", topics="workers"))[0] == 503
    found = await scrape(site)
    assert found[key("dashboard_streams")] == 1
    assert found[key("dashboard_topics")] == 2
    assert found[key("dashboard_redis_commands_total", purpose="live")] > 0
    assert found[key("dashboard_refused_total", what="stream")] == 1
    assert found[key("dashboard_refused_total", what="topic")] == 0
    assert found[key("dashboard_requests_total", route="/api/events", status="200")] == 1


async def test_without_a_login_the_metrics_name_no_queue(queue: TaskQueue, make_site: MakeSite, tmp_path: Path) -> None:
    await fill(queue, "secret-shop")
    file = tmp_path / "tokens"
    file.write_text(f"view prometheus {TOKEN}\n")
    site = await make_site(queue, TokenAccess(file))
    response = await site.client.get("/metrics")
    assert (response.status_code, "taskfleet_dashboard_streams" in response.text) == (200, True)
    assert "secret-shop" not in response.text
    assert "taskfleet_queue" not in response.text
    found = await scrape(site, Authorization=f"Bearer {TOKEN}")
    assert found[key("queue_ready", queue="secret-shop")] == 1
    for sent in ({"Authorization": "Bearer no-token-of-anybody"}, {"X-Taskfleet-Token": "no-token-of-anybody"}):
        wrong = await site.client.get("/metrics", headers=sent)
        assert (wrong.status_code, wrong.json()["error"]) == (401, "this token is not known here")


async def test_a_redis_that_is_gone_is_told(make_queue: MakeQueue, make_site: MakeSite) -> None:
    with RedisServer() as own:
        queue = make_queue(own.url, redis={"command_timeout": 5.0, "connection_timeout": 5.0})
        await fill(queue, "shop")
        site = await make_site(queue)
        assert key("queue_ready", queue="shop") in await scrape(site)
        own.stop()

        async def told() -> bool:
            found = await scrape(site)
            up = [value for (name, _), value in found.items() if name == "taskfleet_redis_up"]
            return up == [0.0] and key("queue_ready", queue="shop") not in found

        await until(told, "the metrics say that Redis is gone", seconds=30)


async def test_a_scrape_that_asks_for_openmetrics_gets_it(site: Site) -> None:
    response = await site.client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.rstrip().endswith("# EOF")


async def test_scrapes_and_probes_ask_redis_no_more_often_for_what_changes_slowly(
    queue: TaskQueue, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()
    broker = site.serving.desk.broker

    def count(name: str) -> None:
        asked = getattr(broker, name)

        async def counted() -> Any:
            calls[name] += 1
            return await asked()

        monkeypatch.setattr(broker, name, counted)

    count("memory")
    count("ping")
    began = time.monotonic()
    for _ in range(20):
        await scrape(site)
        assert (await site.client.get("/healthz")).text == "ok"
    seconds = time.monotonic() - began
    assert 1 <= calls["memory"] <= 1 + seconds / 15
    assert 1 <= calls["ping"] <= 1 + seconds


async def test_queues_that_no_scrape_has_read_are_counted(
    make_queue: MakeQueue, make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskfleet.watching.reading._MOST_PARTITIONS", 4)
    queue = make_queue()
    for n in range(6):
        await fill(queue, f"q{n}")
    site = await make_site(make_queue())
    found = await scrape(site)
    shown = [labels for name, labels in found if name == "taskfleet_queue_ready"]
    assert (len(shown), found[key("dashboard_unread_queues")]) == (4, 2)
