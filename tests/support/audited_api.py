"""A proxy before an API server: it writes down who writes, and can stop answering as a dead network does."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp import web

from taskfleet_operator.control.api.connections import ClosingConnector
from tests.support.serving import serving_http

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "host", "keep-alive"}


@dataclass(frozen=True, slots=True)
class Write:
    """A write as it went to the server: by whom, when it was sent on and answered (monotonic), and to what end."""

    by: str
    sent: float
    answered: float
    method: str
    path: str
    status: int
    body: Any = field(repr=False)

    @property
    def of_lease(self) -> bool:
        return "/leases" in self.path


class AuditedApi:
    """Serves plain HTTP on `url` for one client, `name`. All proxies of a test share one list of `writes`."""

    def __init__(self, server: str, name: str, writes: list[Write]) -> None:
        self.name = name
        self.url = ""
        self.requests: list[tuple[str, str]] = []
        self._server = server
        self._writes = writes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._connected = asyncio.Event()
        self._connected.set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._on_loop(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._on_loop(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """From now on nothing passes in either direction, and nobody is told."""
        self._loop.call_soon_threadsafe(self._connected.clear)

    def mend(self) -> None:
        """Let everything pass again, also what has waited, unless its sender has given up."""
        self._loop.call_soon_threadsafe(self._connected.set)

    def kubeconfig(self, of: Path, to: Path) -> Path:
        """A copy of a kubeconfig (JSON, with a token) that goes through this proxy."""
        config = json.loads(of.read_text())
        for cluster in config["clusters"]:
            cluster["cluster"] = {"server": self.url}
        to.write_text(json.dumps(config))
        return to

    def _on_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        self._client = aiohttp.ClientSession(
            connector=ClosingConnector(ssl=tls, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._serving = serving_http(app, handler_cancellation=True, shutdown_timeout=0.5)
        self.url = f"http://127.0.0.1:{await self._serving.__aenter__()}"

    async def _stop(self) -> None:
        self._connected.set()
        await self._serving.__aexit__(None, None, None)
        await self._client.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        await self._connected.wait()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["Accept-Encoding"] = "identity"
        self.requests.append((request.method, request.path_qs))
        sent = time.monotonic()
        async with self._client.request(
            request.method, self._server + request.path_qs, headers=headers, data=body or None
        ) as answer:
            if request.method != "GET" and "dryRun" not in request.query:
                data = json.loads(body) if body else None
                answered = time.monotonic()
                self._writes.append(Write(self.name, sent, answered, request.method, request.path, answer.status, data))
            await self._connected.wait()
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    response.headers[name] = value
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await self._connected.wait()
                await response.write(chunk)
            await response.write_eof()
            return response
