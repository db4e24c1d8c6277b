"""A server for the pages: the dashboard's built files as the real one serves them, and an API that shows a `World`.

`python -m tests.browser.fixture_server` runs it alone, to look at the pages while they are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from taskfleet_dashboard.guarding.headers import CONTENT_SECURITY_POLICY
from tests.browser.world import World

STATIC = Path(__file__).parents[2] / "dashboard" / "taskfleet_dashboard" / "static"


class FixtureServer:
    """Serves one world at a time; `world` may be exchanged between tests."""

    def __init__(self) -> None:
        self.world = World()
        self.port = 0
        self.streams = 0  # that are open
        self.opened = 0  # so far
        self._ending = threading.Event()
        self._server: uvicorn.Server | None = None

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @contextlib.contextmanager
    def running(self, port: int = 0) -> Iterator[FixtureServer]:
        app = Starlette(routes=[
            Route("/api/events", self._events),
            Route("/api/{path:path}", self._get, methods=["GET"]),
            Route("/api/{path:path}", self._post, methods=["POST"]),
            Route("/{path:path}", self._page),
        ])  # fmt: skip
        config = uvicorn.Config(app, "127.0.0.1", port, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < until, "the fixture server did not start"
            time.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            self._ending.set()
            server.should_exit = True
            thread.join(10)

    async def _page(self, request: Request) -> Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}
        path = request.path_params["path"]
        file = STATIC / path
        if path and file.is_file():
            kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
            return FileResponse(file, headers=headers, media_type=kinds.get(file.suffix))
        text = (STATIC / "index.html").read_text().replace("<head>", '<head><base href="/">', 1)
        return HTMLResponse(text, headers=headers)

    def _refusal(self, request: Request) -> Response | None:
        world = self.world
        if world.down:
            return JSONResponse({"error": "Redis at redis:6379 cannot be reached"}, 503)
        if world.token and request.cookies.get("session") != world.token:
            return JSONResponse({"error": "log in with the token", "login": "token"}, 401)
        return None

    async def _get(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        body = self._body(request.path_params["path"], dict(request.query_params))
        return JSONResponse(
            body if body is not None else {"error": "there is no such thing"}, 200 if body is not None else 404
        )

    def _body(self, path: str, query: dict[str, str]) -> Any:
        world = self.world
        parts = path.split("/")
        match parts:
            case ["session"]:
                return world.session()
            case ["overview"]:
                return world.overview(
                    query.get("search", ""),
                    query.get("sort", "name"),
                    int(query.get("offset", 0)),
                    int(query.get("limit", 50)),
                )
            case ["queues", *name, "history"]:
                return world.history(query.get("span", "1h"))
            case ["queues", *name]:
                return world.queue("/".join(name))
            case ["tasks"]:
                return world.tasks(
                    query.get("state", ""), query.get("q", ""), query.get("cursor", ""), int(query.get("limit", 50))
                )
            case ["tasks", *task, "graph"]:
                return world.graph("/".join(task))
            case ["tasks", *task]:
                return None if task == ["nowhere"] else world.task("/".join(task))
            case ["dead"]:
                return world.dead(query, query.get("cursor", ""))
            case ["dead", *task]:
                return world.dead_letter("/".join(task))
            case ["jobs", job]:
                return world.jobs.get(job)
            case ["schedules"]:
                return world.schedules()
            case ["workers"]:
                return world.workers()
            case ["keys"]:
                return world.keys()
            case ["scalers", namespace, name]:
                return world.scaler(f"{namespace}/{name}", query.get("span", "1h"))
            case ["scalers", namespace, name, "decisions", moment]:
                return world.decision(f"{namespace}/{name}", moment)
            case ["explain", namespace, name]:
                return world.explain(f"{namespace}/{name}")
            case ["audit"]:
                return world.audit(query.get("cursor", ""))
            case _:
                return None

    async def _post(self, request: Request) -> Response:
        world = self.world
        path = request.path_params["path"]
        body = json.loads(await request.body() or b"{}")
        if path == "login":
            if body.get("token") != world.token:
                return JSONResponse({"error": "this token is not the right one", "login": "token"}, 401)
            answer = JSONResponse(world.session())
            answer.set_cookie("session", world.token, httponly=True, samesite="strict")
            return answer
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        if path == "logout":
            answer = JSONResponse({"changed": True, "count": None, "detail": ""})
            answer.delete_cookie("session")
            return answer
        if request.headers.get("x-csrf-token") != self.world.csrf:
            return JSONResponse({"error": "the CSRF token is missing"}, 403)
        if world.refuse:
            return JSONResponse({"error": world.refuse}, 403)
        world.changes.append((path, body))
        return JSONResponse(self._change(path.split("/"), body))

    def _change(self, parts: list[str], body: Any) -> Any:
        world = self.world
        match parts:
            case ["queues" | "schedules", *_, name, "pause"]:
                world.touch(paused=world.paused | {name})
            case ["queues" | "schedules", *_, name, "resume"]:
                world.touch(paused=world.paused - {name})
            case ["queues", *_, "purge"]:
                world.touch(ready=0)
                return {"changed": True, "count": 1961, "detail": ""}
            case ["workers", name, "cordon"]:
                world.touch(cordoned=world.cordoned | {name})
            case ["workers", name, "uncordon"]:
                world.touch(cordoned=world.cordoned - {name})
            case ["tasks", _, "cancel"]:
                world.touch(state="cancelled")
            case ["dead", action]:
                return world.start(action, body)
            case ["jobs", job, "undo"]:
                world.finish(job, "undone")
                return world.jobs[job]
            case ["scalers", namespace, name, "what-if"]:
                return world.what_if(f"{namespace}/{name}", body)
            case ["schedules", *_, "run"]:
                return {"changed": True, "count": None, "detail": "01J9RUNNOW"}
            case _:
                pass
        return {"changed": True, "count": None, "detail": ""}

    async def _events(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None or self.world.deaf:
            return refusal or (
                JSONResponse({"error": self.world.deaf_since}, 503)
                if self.world.deaf_since
                else Response(status_code=503)
            )
        topics = request.query_params.get("topics", "").split(",")
        return StreamingResponse(
            self._stream(request, topics), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    async def _stream(self, request: Request, topics: list[str]) -> AsyncIterator[str]:
        self.streams += 1
        self.opened += 1
        try:
            async for event in self._told(request, topics):
                yield event
        finally:
            self.streams -= 1

    async def _told(self, request: Request, topics: list[str]) -> AsyncIterator[str]:
        world, sent = self.world, -1
        yield "retry: 500\n\n"
        while not self._ending.is_set() and self.world is world and not (world.deaf or world.down):
            if await request.is_disconnected():
                return
            if world.version != sent:
                sent = world.version
                for topic in topics:
                    if topic in world.refused:
                        told = json.dumps({"error": f"64 topics are watched already; {topic} is not among them"})
                        yield f"event: refused\ndata: {told}\n\nevent: error:{topic}\ndata: {told}\n\n"
                        continue
                    body = self._body(_path(topic), {})
                    if world.no_redis:
                        error = {"error": "Redis at redis:6379 cannot be reached"}
                        yield f"event: error:{topic}\ndata: {json.dumps(error)}\n\n"
                    elif body is not None:
                        yield f"event: {topic}\ndata: {json.dumps(body)}\n\n"
            await asyncio.sleep(0.03)


def _path(topic: str) -> str:
    kind, _, name = topic.partition(":")
    folder = {"queue": "queues", "task": "tasks", "job": "jobs", "scaler": "scalers"}.get(kind, kind)
    return f"{folder}/{name}" if name else folder


if __name__ == "__main__":
    with FixtureServer().running(8123) as fixture:
        print(fixture.url())
        threading.Event().wait()
