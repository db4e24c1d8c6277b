"""The least rights of the dashboard's Redis user: with them every page and every change works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet import chain
from taskfleet.redis import acl
from tests.dashboard.conftest import MakeSite
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_every_page_and_every_change_works_with_the_least_rights(
    guarded: RedisServer, make_queue: MakeQueue, make_site: MakeSite, run_worker: RunWorker
) -> None:
    guarded.call("ACL", "SETUSER", "dashboard", "on", "nopass", *acl.rule("dashboard", "app"))
    queue = make_queue(guarded.url, redis={"key_prefix": "app"})
    login = {"username": "dashboard", "password": "any", "key_prefix": "app"}

    @queue.task(max_retries=0)
    async def fail(n: int = 0) -> None:
        raise ValueError(n)

    @queue.task(queue="idle")
    async def work(n: int = 0) -> int:
        return n

    for n in range(4):
        await fail.enqueue(n)
    await run_worker(queue, queues=["default"])
    await work.options(limit_key="l", fair_key="f").enqueue()
    waiting = await work.enqueue()
    blocked = await queue.enqueue(chain(work.message(1), work.message()))
    await queue.add_schedule(name="nightly", task="work", schedule="@daily", queue="idle")

    async def dead() -> bool:
        return (await queue.queue_stats("default")).dead == 4

    await until(dead, "all are dead")
    site = await make_site(make_queue(guarded.url, redis=login), records=True)

    async def shown() -> Any:
        return len((await site.get("overview"))["failures"]) == 4

    await until(shown, "the failures are shown")
    letters = [row["id"] for row in (await site.get("dead"))["items"]]
    paths = [
        "queues/default", "queues/idle", "queues/idle/history", "tasks", "tasks?q=work", f"tasks/{blocked.id}/graph",
        f"tasks/{letters[0]}", f"dead/{letters[0]}", "schedules", "workers", "keys", "audit",
    ]  # fmt: skip
    for path in paths:
        response = await site.client.get(f"/api/{path}")
        assert response.status_code == 200, (path, response.text)
    for path in ("pause", "resume"):
        await site.post(f"queues/idle/{path}")
        await site.post(f"schedules/idle/nightly/{path}")
    await site.post("schedules/idle/nightly/run")
    await site.post(f"tasks/{waiting.id}/cancel")
    await site.post(f"tasks/{letters[0]}/retry")
    job = await site.job("discard", {"match": {}})
    await site.post(f"jobs/{job['job']}/undo")
    await site.job("requeue", {"match": {}})
    await site.post("queues/idle/purge", {"confirm": "idle"})
    stream = await site.stream("overview,queue:idle,dead,workers,schedules")
    for topic in ("overview", "queue:idle", "dead", "workers", "schedules"):
        await stream.event(topic)
    denied = list(guarded.call("ACL", "LOG"))
    assert denied == []
