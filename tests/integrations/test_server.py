"""A real server (uvicorn), a real worker and a real Valkey; the OpenAPI document as it is served."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from taskfleet import TaskQueue
from tests.engine.conftest import until
from tests.support.ports import free_port
from tests.support.processes import Start, python_processes

DOCUMENT = Path(__file__).with_name("openapi.json")
REQUESTS = 200


@pytest.fixture
def start(shared: TaskQueue) -> Iterator[Start]:
    with python_processes() as start:
        yield start


@asynccontextmanager
async def served(start: Start) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A client of a new server, and the server's process."""
    port = free_port()
    process = start(
        "uvicorn", "tests.integrations.shop_app:app", "--port", str(port), "--log-level", "warning", "--no-access-log"
    )
    limits = httpx.Limits(max_connections=REQUESTS)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60) as client:

        async def answers() -> bool:
            assert process.poll() is None, process.stderr.read().decode()  # type: ignore[union-attr]
            try:
                return (await client.get("/tasks/health")).status_code == 200
            except httpx.TransportError:
                return False

        await until(answers, "the server answers", seconds=60)
        yield client, process


async def test_two_hundred_requests_at_once(shared: TaskQueue, start: Start) -> None:
    start("taskfleet", "worker", "tests.integrations.shop_app:queue")
    async with served(start) as (client, process):

        async def double(number: int) -> int:
            accepted = await client.post("/tasks/double", json={"number": number})
            assert accepted.status_code == 202, accepted.text
            answer = await client.get(accepted.json()["status_url"], params={"wait": 30})
            result: int = answer.json()["result"]
            return result

        results = await asyncio.gather(*map(double, range(REQUESTS)))
        assert results == [2 * number for number in range(REQUESTS)]
        charged = await client.post("/tasks/shop.billing/charge", json={"amount": "10", "notes": ["a"]})
        url = charged.json()["status_url"]
        assert (await client.get(url, params={"wait": 30})).json()["result"] == "11.90"
        body = {"number": 1, "to": {"street": "s", "city": "c"}}
        shipped = (await client.post("/tasks/ship_order", json=body)).json()
        assert (await client.get(shipped["status_url"], params={"wait": 30})).json()["result"] == "1 to c"
        answers = await asyncio.gather(*(client.get(f"/tasks/{path}") for path in ("metrics", "alerts", "diagnostics")))
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        (queue,) = [each for each in answers[0].json()["queues"]["queues"] if each["name"] == "default"]
        assert queue["enqueued_total"] == REQUESTS + 1
        assert answers[0].json()["system"]["process"]["pid"] == process.pid
    process.send_signal(signal.SIGTERM)
    await until(lambda: process.poll() is not None, "the server has ended")
    assert process.stderr.read() == b""  # no warning of a connection that nobody closed


async def test_the_openapi_document_is_valid_and_the_same_as_before(shared: TaskQueue, start: Start) -> None:
    async with served(start) as (client, _):
        document = (await client.get("/openapi.json")).json()
    validate(document)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("TASKFLEET_WRITE"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert json.loads(DOCUMENT.read_text(encoding="utf-8")) == document, "TASKFLEET_WRITE=1 writes it anew"


def test_each_task_is_one_operation_of_the_document() -> None:
    paths = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"]
    posts = {path: operations["post"] for path, operations in paths.items() if "post" in operations}
    assert set(posts) == {"/tasks/double", "/tasks/shop.billing/charge", "/tasks/count_stock", "/tasks/ship_order"}
    schemas = {path: post["requestBody"]["content"]["application/json"]["schema"] for path, post in posts.items()}
    assert set(schemas["/tasks/shop.billing/charge"]["properties"]) == {"amount", "due", "notes"}
    assert schemas["/tasks/ship_order"]["properties"]["to"] == {"$ref": "#/components/schemas/Address"}
