"""The webhook's HTTPS server: certificates that change, looks that fail, and reviews that are nested deeply."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from taskfleet.errors import ConfigurationError
from taskfleet_operator.webhook import server as server_module
from taskfleet_operator.webhook.examination import Cluster
from taskfleet_operator.webhook.server import WebhookServer
from tests.support.certificates import Certificates
from tests.support.manifests import GOOD
from tests.support.ports import free_port


class Accepting:
    """A cluster that takes everything."""

    async def dry_run_apply(self, body: dict[str, Any], manager: str) -> dict[str, Any]:
        return body

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> None:
        return None


class Served:
    """A webhook with the folder of its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.webhook = WebhookServer(cast("Cluster", Accepting()), self.port, str(folder))

    def put(self, name: str) -> Certificates:
        """A certificate of another authority."""
        place = self.folder.parent / name
        place.mkdir()
        made = Certificates(place)
        shutil.copy(made.server, self.folder / "tls.crt")
        shutil.copy(made.server_key, self.folder / "tls.key")
        return made

    async def ask(self, of: Certificates, body: bytes = b"{}") -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(of.ca))
        url = f"https://127.0.0.1:{self.port}/validate"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, ssl=context) as response:
            return response.status, await response.text()

    async def until_served(self, of: Certificates) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.ask(of)
                    return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(server_module, "_LOOK_SECONDS", 0.01)
    folder = tmp_path / "tls"
    folder.mkdir()
    served = Served(folder)
    yield served
    await served.webhook.close()


def failing_once(act: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    failures = [error]

    def call(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return act(*given)

    return call


async def test_a_look_that_fails_is_logged_and_the_next_one_loads_the_certificate(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = served.put("first")
    await served.webhook.start()
    await served.until_served(first)
    monkeypatch.setattr(
        server_module, "_context", failing_once(server_module._context, MemoryError("no room for a context"))
    )
    await served.until_served(served.put("second"))
    assert "the look at the webhook's certificate has ended by an error" in caplog.text
    assert "no room for a context" in caplog.text


async def test_a_certificate_that_does_not_fit_its_key_leaves_the_last_one(served: Served) -> None:
    first = served.put("first")
    await served.webhook.start()
    (served.folder / "tls.key").write_bytes(first.client_key.read_bytes())
    loaded = served.webhook._refused
    await until(lambda: served.webhook._refused is not loaded)
    await served.until_served(first)
    await served.until_served(served.put("second"))


async def test_a_port_that_is_taken_is_told_and_tried_again(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("", served.port)):
        await served.webhook.start()  # there is no certificate yet
        first = served.put("first")
        await until(lambda: "cannot listen" in caplog.text)
        assert served.webhook.problem.startswith(f"--webhook-port {served.port}: cannot listen")
    await served.until_served(first)
    assert not served.webhook.problem


async def test_a_port_that_is_taken_at_the_start_ends_the_start(served: Served) -> None:
    served.put("first")
    with socket.create_server(("", served.port)), pytest.raises(ConfigurationError, match="--webhook-port"):
        await served.webhook.start()


@pytest.mark.parametrize("levels", [100, 1_000, 20_000])
async def test_a_template_of_any_depth_is_answered(served: Served, levels: int) -> None:
    first = served.put("first")
    await served.webhook.start()
    body = json.loads(json.dumps(GOOD))
    body["metadata"] |= {"namespace": "shop", "uid": "1"}
    body["spec"]["worker"]["template"] = {"metadata": {"annotations": "DEEP"}}
    request = {"uid": "42", "kind": {"kind": "TaskQueue"}, "operation": "CREATE", "namespace": "shop", "name": "orders"}
    review = json.dumps({"request": {**request, "object": body, "oldObject": None}})
    status, text = await served.ask(first, review.replace('"DEEP"', '{"a":' * levels + "1" + "}" * levels).encode())
    assert status == 200
    assert json.loads(text)["response"]["uid"] == "42"
