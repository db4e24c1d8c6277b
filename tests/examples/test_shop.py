"""examples/shop/README.md."""

from __future__ import annotations

import time
from typing import Any

import httpx

from tests.examples.conftest import MakeExample

ORDER = (
    "curl -s localhost:8000/orders -H 'content-type: application/json' "
    '-d \'{"email": "ada@example.com", "cents": 1250, "carrier": "north", "webhook": "http://127.0.0.1:8001/hooks"}\''
)
STATUS = "curl -s 'localhost:8000/tasks/status/ID?wait=20' -H 'authorization: Bearer secret'"


def test_an_order_brings_a_mail_a_webhook_and_a_parcel(example: MakeExample) -> None:
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

    started = time.monotonic()
    orders: list[dict[str, Any]] = [shop.asks(ORDER) for _ in range(3)]
    assert [order["number"] for order in orders] == [1, 2, 3]
    parcels = [shop.asks(STATUS, order["parcel"]) for order in orders]
    seconds = time.monotonic() - started
    mails, webhooks = ([shop.asks(STATUS, order[kind]) for order in orders] for kind in ("mail", "webhook"))
    assert {end["status"] for end in (*parcels, *mails, *webhooks)} == {"succeeded"}
    assert [end["result"] for end in webhooks] == [3, 3, 3]  # at the third attempt each
    assert [end["result"] for end in parcels] == ["north-00001", "north-00002", "north-00003"]

    seen = shop.asks("curl -s localhost:8001/seen")
    assert sorted(mail["subject"] for mail in seen["mails"]) == ["Your order 1", "Your order 2", "Your order 3"]
    assert sorted(hook["order"] for hook in seen["hooks"]) == [1, 2, 3]
    assert seen["hook_attempts"] == 9
    assert sorted(parcel["order"] for parcel in seen["parcels"]) == [1, 2, 3]

    # Each call took a token of the carrier, of which there is one at first and two a second then.
    assert seconds > (len(orders) + seen["parcels_refused"] - 1) / 2 - 0.05

    url, arguments = shop.curl(STATUS, orders[0]["mail"])
    arguments["headers"]["authorization"] = "Bearer guessed"
    assert httpx.request(url=url, **arguments).status_code == 403
    assert "nightly-report" in shop.run("taskfleet schedules list")


def test_the_tests_of_the_shop_pass(example: MakeExample) -> None:
    assert "2 passed" in example("shop").run("pytest test_night.py")
