"""The nights of the shop in a second: time is virtual, the queue in memory, and the world outside a fake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from taskfleet import TaskQueue
from taskfleet.testing import InlineWorker

from shop import orders
from shop.tasks import add_schedules, http_client, queue, send_webhook

DAY = 86_400


class Outside:
    """Takes the place of the world outside, and notes every call."""

    def __init__(self) -> None:
        self.status = 200
        self.bodies: list[dict[str, object]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        return httpx.Response(self.status)


@pytest.fixture
def worker(
    taskfleet_isolated: Callable[[TaskQueue], InlineWorker], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> InlineWorker:
    monkeypatch.setattr(orders, "FILE", tmp_path / "shop.db")
    return taskfleet_isolated(queue)


async def test_a_report_every_night(worker: InlineWorker) -> None:
    outside = Outside()
    await add_schedules()
    orders.add(1250)
    orders.add(750)
    with queue.override(http_client, lambda: httpx.AsyncClient(transport=httpx.MockTransport(outside))):
        await worker.run_for(3 * DAY)
    assert [body["text"] for body in outside.bodies] == ["2 orders, 20.00 €", "0 orders, 0.00 €", "0 orders, 0.00 €"]
    assert {(body["to"], body["subject"]) for body in outside.bodies} == {("boss@shop.example", "Yesterday")}


async def test_a_webhook_is_tried_for_minutes_and_then_kept(worker: InlineWorker) -> None:
    outside = Outside()
    outside.status = 503
    with queue.override(http_client, lambda: httpx.AsyncClient(transport=httpx.MockTransport(outside))):
        handle = await send_webhook.enqueue("https://customer.example/hooks", "order.placed", 7)
        await worker.run_until_idle(through_delays=True)
    assert len(outside.bodies) == 9
    assert await handle.status() == "failed"
    [letter] = await queue.dead_letters("webhooks")
    assert letter.error is not None
    assert "503" in letter.error
