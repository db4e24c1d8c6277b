"""A proxy before the Kubernetes API server that refuses calls, cuts watches and lets them fall silent, on command."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp
import yaml
from aiohttp import web

from taskfleet_operator.control.api import connections
from taskfleet_operator.control.api.connections import ClosingConnector
from tests.support.serving import serving_http

Silence = Literal["nothing", "head", "half an event"]


@dataclass(frozen=True)
class Call:
    """One request, as the proxy has seen it."""

    at: float  # monotonic
    method: str
    path: str
    query: dict[str, str]
    token: str = ""

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "1"

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


class ApiProxy:
    """Runs in a thread, so that tests with processes can use it too. `kubeconfig` names the proxy as server.

    `refuse(call)` is asked for each request: a response in place of None is the answer, and the API server hears
    nothing of it. What the API server says in a watch of which `silent(call)` is true goes nowhere, and the connection
    stays open. `let_through` says how much of the answer comes before the silence: "nothing", its "head", or also
    "half an event", the first that comes.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._target: str = cluster["server"]
        self._trust = ssl.create_default_context(
            cadata=_certificate(cluster), cafile=cluster.get("certificate-authority")
        )
        self._config = config
        self.kubeconfig = folder / "proxy.kubeconfig"
        self.refuse: Callable[[Call], web.Response | None] = lambda _call: None
        self.silent: Callable[[Call], bool] = lambda _call: False
        self.let_through: Silence = "nothing"
        self.calls: list[Call] = []
        self._watches: set[asyncio.Task[Any]] = set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def log_in_with(self, token: str) -> None:
        """Write another token into the kubeconfig."""
        self._config["users"] = [{"name": user["name"], "user": {"token": token}} for user in self._config["users"]]
        self.kubeconfig.write_text(yaml.safe_dump(self._config))

    @property
    def token(self) -> str:
        """The token in the kubeconfig."""
        return str(self._config["users"][0]["user"]["token"])

    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.is_write]

    def watches(self) -> int:
        """How many watches stand now."""
        return len(self._watches)

    def cut(self) -> None:
        """Break every watch that stands now."""

        async def cut() -> None:
            for task in self._watches:
                task.cancel()

        self._run(cut())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=ClosingConnector(ssl=self._trust, limit=0), auto_decompress=False
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._serving = serving_http(app, shutdown_timeout=0.1, handler_cancellation=True)
        port = await self._serving.__aenter__()
        self._config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        self.kubeconfig.write_text(yaml.safe_dump(self._config))

    async def _stop(self) -> None:
        for task in list(self._watches):
            task.cancel()
        await self._serving.__aexit__(None, None, None)
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        token = request.headers.get("Authorization", "").partition(" ")[2]
        call = Call(time.monotonic(), request.method, request.path, dict(request.query), token)
        self.calls.append(call)
        if (refusal := self.refuse(call)) is not None:
            return refusal
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() in ("authorization", "content-type", "accept", "user-agent")
        }
        headers["Accept-Encoding"] = "identity"  # the API server compresses a long list
        body = await request.read()
        async with self._session.request(
            request.method,
            self._target + request.raw_path,
            headers=headers,
            data=body or None,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if not call.is_watch:
                return web.Response(
                    status=answer.status, body=await answer.read(), headers=_answer_headers(answer.headers)
                )
            return await self._stream(request, call, answer)

    async def _stream(self, request: web.Request, call: Call, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=_answer_headers(answer.headers))
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            if self.silent(call) and self.let_through == "nothing":
                await asyncio.Event().wait()  # until the client gives up
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                if self.silent(call):
                    if self.let_through == "half an event":
                        await response.write(chunk[: len(chunk) // 2])
                    await asyncio.Event().wait()  # until the client gives up
                await response.write(chunk)
            if self.silent(call):
                await asyncio.Event().wait()  # the end of the answer is kept back, too
        except (asyncio.CancelledError, ConnectionError):
            connections.abort(answer)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watches.discard(task)
        return response


def refusal(status: int, message: str = "refused by the proxy", **headers: str) -> web.Response:
    """An answer as the API server gives it."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": status}
    return web.json_response(
        body, status=status, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


def _answer_headers(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() in ("content-type", "retry-after")}


def _certificate(cluster: dict[str, Any]) -> str | None:
    data = cluster.get("certificate-authority-data")
    return base64.b64decode(data).decode() if data else None
