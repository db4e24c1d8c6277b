"""Applications of web frameworks beside a real Valkey; the fixtures of `tests/engine` are here too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from taskfleet.tasks.namespace import CLASS_TASKS
from tests.engine.conftest import make_queue, no_orphans, queue, queues_url, redis_url, run_worker, server, shared

__all__ = ["make_queue", "no_orphans", "queue", "queues_url", "redis_url", "run_worker", "server", "shared"]

MakeClient = Callable[..., httpx.AsyncClient]


@pytest.fixture(autouse=True)
def no_class_tasks_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every router has all class tasks of its program, and so those of other tests."""
    monkeypatch.setattr(CLASS_TASKS, "_definitions", {})


@pytest.fixture
async def client_of() -> AsyncIterator[MakeClient]:
    """A client of an ASGI application, in this process and loop."""
    clients: list[httpx.AsyncClient] = []

    def make(app: Any, root_path: str = "") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app, root_path=root_path)
        client = httpx.AsyncClient(transport=transport, base_url="http://shop.example")
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.aclose()
