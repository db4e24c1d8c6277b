"""Dashboards that serve over HTTP beside a real Valkey; the fixtures of `tests/engine` are here too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn

from taskfleet import TaskQueue
from taskfleet_dashboard.access.visitor import Access, OpenAccess
from taskfleet_dashboard.app import application
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.serving import Serving
from tests.engine.conftest import (
    make_queue,
    no_orphans,
    queue,
    queues_url,
    redis_url,
    run_worker,
    server,
    shared,
    until,
)

__all__ = ["make_queue", "no_orphans", "queue", "queues_url", "redis_url", "run_worker", "server", "shared"]


@dataclass
class Event:
    """One event of a stream."""

    name: str
    data: Any


@dataclass
class Stream:
    """An open stream; `events` are those that have come."""

    response: httpx.Response
    events: list[Event] = field(default_factory=list[Event])
    ended: bool = False

    async def read(self) -> None:
        name = ""
        try:
            async for line in self.response.aiter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.events.append(Event(name, json.loads(line.removeprefix("data: "))))
        finally:
            self.ended = True

    async def event(self, name: str, matching: Callable[[Any], bool] = lambda _: True) -> Any:
        """The data of the first event of that name that matches."""
        found = await until(
            lambda: [each for each in self.events if each.name == name and matching(each.data)],
            f"event {name}",
            seconds=30,
        )
        return found[0].data


class Site:
    """A dashboard that serves, and a browser's part: its cookies, and its CSRF token."""

    def __init__(self, serving: Serving, url: str, client: httpx.AsyncClient) -> None:
        self.serving = serving
        self.url = url
        self.client = client
        self._streams: list[tuple[Any, asyncio.Task[None]]] = []

    async def get(self, path: str, **params: Any) -> Any:
        response = await self.client.get(f"/api/{path}", params=params)
        assert response.status_code == 200, response.text
        return response.json()

    async def refused(self, path: str, **params: Any) -> tuple[int, str]:
        response = await self.client.get(f"/api/{path}", params=params)
        return response.status_code, response.json()["error"]

    async def post(self, path: str, body: Any = None, *, status: int = 200) -> Any:
        session = (await self.client.get("/api/session")).json()
        response = await self.client.post(f"/api/{path}", json=body, headers={"X-CSRF-Token": session["csrf"]})
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    async def job(self, action: str, order: Any) -> Any:
        """Start a job and wait for its end, and that it is in the record of changes, which comes after it."""
        started = await self.post(f"dead/{action}", order, status=202)

        async def ended() -> Any:
            found = await self.get(f"jobs/{started['job']}")
            return found if found["state"] != "running" else None

        told = await until(ended, "the job ends", seconds=30)
        await until(lambda: started["job"] not in self.serving.jobs._running, "the job is in the record")
        return told

    async def stream(self, topics: str, client: httpx.AsyncClient | None = None) -> Stream:
        opened = (client or self.client).stream("GET", "/api/events", params={"topics": topics}, timeout=None)
        stream = Stream(await opened.__aenter__())
        assert stream.response.status_code == 200, await stream.response.aread()
        self._streams.append((opened, asyncio.create_task(stream.read())))
        return stream

    async def close_streams(self) -> None:
        for opened, reading in self._streams:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await opened.__aexit__(None, None, None)
        self._streams.clear()


MakeSite = Callable[..., Coroutine[Any, Any, Site]]


@pytest.fixture
async def make_site() -> AsyncIterator[MakeSite]:
    """Serve dashboards over HTTP, on free ports of this machine."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None], Site]] = []

    async def make(
        queue: TaskQueue, access: Access | None = None, *, mask: tuple[str, ...] = (), app: Any = None, base: str = "",
        serving: Serving | None = None, **options: Any,
    ) -> Site:  # fmt: skip
        if serving is None:
            serving = Serving(queue, access or OpenAccess(), masks=Masks(mask), **{"records": False} | options)
        config = uvicorn.Config(
            app or application(serving, hosts=["127.0.0.1"]), host="127.0.0.1", port=0, log_config=None, lifespan="on",
            timeout_graceful_shutdown=10,
        )  # fmt: skip
        serves = uvicorn.Server(config)
        task = asyncio.create_task(serves.serve())
        await until(lambda: serves.started or task.done(), "the dashboard serves")
        port = serves.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}{base}"
        site = Site(serving, url, httpx.AsyncClient(base_url=url, timeout=60))
        running.append((serves, task, site))
        return site

    yield make
    # uvicorn puts back the signal handlers that it has found: the last one goes first.
    for serves, task, site in reversed(running):
        await site.close_streams()
        await site.client.aclose()
        serves.should_exit = True
        done, _ = await asyncio.wait([task], timeout=60)
        assert done, "the dashboard does not end"
        await task


@pytest.fixture(autouse=True)
def whole_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has all that it has room for, however long a busy machine takes to read it."""
    monkeypatch.setattr("taskfleet_dashboard.desk._MOST_SECONDS", 60.0)
    monkeypatch.setattr("taskfleet_dashboard.reading.letters._MOST_SECONDS", 60.0)


@pytest.fixture
async def site(queue: TaskQueue, make_site: MakeSite) -> Site:
    """A dashboard on loopback without an access method."""
    return await make_site(queue)
