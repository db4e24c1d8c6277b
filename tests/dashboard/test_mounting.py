"""The dashboard inside applications of FastAPI and Starlette, and its pages."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from taskfleet import TaskQueue
from taskfleet.errors import ConfigurationError
from taskfleet.testing import InMemoryBroker
from taskfleet_dashboard import Visitor, dashboard
from taskfleet_dashboard.routes import pages
from tests.dashboard.conftest import MakeSite, Site
from tests.engine.conftest import until
from tests.support.ports import free_port

APP = """
import sys

import uvicorn
from fastapi import FastAPI

from taskfleet import TaskQueue
from taskfleet_dashboard import dashboard

queue = TaskQueue()
app = FastAPI()
app.mount("/dashboard", dashboard(queue, access=lambda request: True))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Built pages."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><html><head><title>T</title></head><body></body></html>")
    (tmp_path / "assets" / "app-1a2b.js").write_text("console.log(1)")
    (tmp_path.parent / "secret.txt").write_text("secret")
    monkeypatch.setattr(pages, "STATIC", tmp_path.resolve())
    return tmp_path


def who(request: Any) -> Visitor | None:
    name = request.headers.get("x-user", "")
    return Visitor(name, may_change=name == "erik") if name else None


def applications(queue: TaskQueue) -> dict[str, Any]:
    fast = FastAPI()
    fast.mount("/admin/tasks", dashboard(queue, access=who, mask=["card"]))
    return {
        "fastapi": fast,
        "starlette": Starlette(routes=[Mount("/admin/tasks", dashboard(queue, access=who, mask=["card"]))]),
    }


@pytest.mark.parametrize("framework", ["fastapi", "starlette"])
async def test_it_is_mounted_and_asks_the_application_who_may_look(
    queue: TaskQueue, make_site: MakeSite, framework: str, folder: Path
) -> None:
    @queue.task
    async def work(card: str) -> None: ...

    handle = await work.enqueue("4111 1111")
    app = applications(queue)[framework]
    site = await make_site(queue, app=app, base="/admin/tasks")
    assert (await site.client.get("/api/session")).status_code == 403
    site.client.headers["x-user"] = "vera"
    session = await site.get("session")
    assert (session["user"], session["base"], session["may_change"]) == ("vera", "/admin/tasks", False)
    assert "4111 1111" not in (await site.client.get(f"/api/tasks/{handle.id}")).text
    assert '<base href="/admin/tasks/">' in (await site.client.get("/queues/default")).text
    assert (await site.client.get("/assets/app-1a2b.js")).text == "console.log(1)"
    assert (await site.client.get("/api/openapi.json")).json()["info"]["title"] == "Taskfleet dashboard"
    cookie = next(each for each in site.client.cookies.jar if each.name == "taskfleet_csrf")
    assert cookie.path == "/admin/tasks/"
    stream = await site.stream("queue:default")
    assert (await stream.event("queue:default"))["row"]["ready"] == 1
    site.client.headers["x-user"] = "erik"
    await site.post("queues/default/pause")
    assert (await queue.queue_stats("default")).paused
    (row, *_) = (await site.get("audit"))["items"]
    assert (row["user"], row["action"]) == ("erik", "pause")


async def test_pages_are_served_for_every_path_with_hashed_assets_for_ever(site: Site, folder: Path) -> None:
    for path in ("/", "/queues/a.b", "/tasks/0123", "/autoscaler/shop/orders", "/login"):
        page = await site.client.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert page.headers["cache-control"] == "no-cache"
        assert '<base href="/">' in page.text
    asset = await site.client.get("/assets/app-1a2b.js")
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-type"] == "text/javascript; charset=utf-8"
    assert (await site.client.get("/assets/app-old.js")).status_code == 404
    for path in ("/../secret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt", "/..%5csecret.txt", "/%00"):
        assert (await site.client.get(path)).text != "secret", path
    assert await site.refused("nothing") == (
        404, "there is nothing at /api/nothing; /api/openapi.json lists what there is",
    )  # fmt: skip
    assert (await site.client.post("/api/nothing")).status_code == 404


async def test_without_built_pages_the_page_says_how_to_make_them(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "STATIC", tmp_path)
    page = await site.client.get("/")
    assert page.status_code == 503
    assert "make dashboard" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert (await site.get("session"))["may_change"]


def test_a_wrong_argument_is_one_clear_line(queue: TaskQueue) -> None:
    wrong: Any = "alice"
    with pytest.raises(ConfigurationError, match="access= says who may look"):
        dashboard(queue, access=wrong)
    with pytest.raises(ConfigurationError, match="give 10 to 1,000,000"):
        dashboard(queue, access=who, most_commands_per_second=1)
    with pytest.raises(ConfigurationError, match="in memory"):
        dashboard(TaskQueue(broker=InMemoryBroker()), access=who)


async def test_an_application_ends_at_once_while_pages_of_its_dashboard_are_open(
    shared: TaskQueue, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    arguments = [sys.executable, str(tmp_path / "app.py"), str(port)]
    process = subprocess.Popen(arguments)  # noqa: ASYNC220  # it is started and not waited for
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/dashboard", timeout=60) as client:

            async def serves() -> bool:
                try:
                    return (await client.get("/healthz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(serves, "the application serves", seconds=40)
            async with client.stream("GET", "/api/events", params={"topics": "workers"}) as response:
                lines = response.aiter_lines()
                while "event: workers" not in await anext(lines):
                    pass
                process.terminate()
                rest = [line async for line in lines]
        assert "event: end" in rest
        assert await asyncio.to_thread(process.wait, 60) in (0, -15)
    finally:
        process.kill()
        process.wait()
