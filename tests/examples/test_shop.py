"""examples/shop/README.md."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from taskfleet import TaskQueue
from tests.examples.conftest import MakeExample
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.timeout(300)  # beside other work

NUMBERS = [1, 2, 3, 4, 5]
ORDER = (
    "curl -s localhost:8000/orders -H 'content-type: application/json' "
    '-d \'{"email": "ada@example.com", "cents": 1250, "carrier": "north", "webhook": "http://127.0.0.1:8001/hooks"}\''
)
STATUS = "curl -s 'localhost:8000/tasks/status/ID?wait=20' -H 'authorization: Bearer secret'"


async def set_paused(redis_url: str, paused: bool) -> None:
    """Let the tasks for the carriers wait, so that all are there when they begin."""
    async with TaskQueue(redis_url) as queue:
        await (queue.pause("carriers") if paused else queue.resume("carriers"))


def test_an_order_brings_a_mail_a_webhook_and_a_parcel(example: MakeExample, server: RedisServer) -> None:
    shop = example("shop", kept=("shop.db",))
    shop.environment["OUTSIDE_URL"] = f"http://127.0.0.1:{shop.port(8001)}"
    programs = [
        shop.start("uvicorn outside:app --port 8001"),
        shop.start("SHOP_TOKEN=secret uvicorn shop.web:app --port 8000"),
    ]
    dev = shop.start("taskfleet dev shop.tasks:queue")
    for program in programs:
        program.says("Application startup complete")
    dev.says("is ready")

    asyncio.run(set_paused(server.url, True))
    orders: list[dict[str, Any]] = [shop.asks(ORDER) for _ in NUMBERS]
    assert [order["number"] for order in orders] == NUMBERS
    started = time.monotonic()
    asyncio.run(set_paused(server.url, False))
    parcels = [shop.asks(STATUS, order["parcel"]) for order in orders]
    seconds = time.monotonic() - started
    mails, webhooks = ([shop.asks(STATUS, order[kind]) for order in orders] for kind in ("mail", "webhook"))
    assert {end["status"] for end in (*parcels, *mails, *webhooks)} == {"succeeded"}
    assert [end["result"] for end in webhooks] == [3] * 5  # at the third attempt each
    assert [end["result"] for end in parcels] == [f"north-0000{number}" for number in NUMBERS]

    seen = shop.asks("curl -s localhost:8001/seen")
    assert sorted(mail["subject"] for mail in seen["mails"]) == [f"Your order {number}" for number in NUMBERS]
    assert sorted(hook["order"] for hook in seen["hooks"]) == NUMBERS
    assert seen["hook_attempts"] == 15
    assert sorted(parcel["order"] for parcel in seen["parcels"]) == NUMBERS

    # Each call took a token of the carrier, of which there is one at first and two a second then.
    assert seconds > (len(orders) + seen["parcels_refused"] - 1) / 2 - 0.05

    url, arguments = shop.curl(STATUS, orders[0]["mail"])
    arguments["headers"]["authorization"] = "Bearer guessed"
    assert httpx.request(url=url, **arguments).status_code == 403
    shop.shows(shop.run("taskfleet schedules list"))


def test_the_tests_of_the_shop_pass(example: MakeExample) -> None:
    assert "2 passed" in example("shop").run("pytest test_night.py")
