"""The class of all routes: it bounds the body, hands JSON over as text, and answers Taskfleet's errors.

| error | answer |
| --- | --- |
| the body is larger than the bound; `PayloadTooLargeError` | 413 |
| other `SerializationError`, `ConfigurationError` | 422, in FastAPI's own form |
| `QueueFullError` | 429 |
| `BrokerConnectionError` | 503 |
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Coroutine
from typing import Any
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope

from taskfleet.errors import (
    BrokerConnectionError,
    ConfigurationError,
    PayloadTooLargeError,
    QueueFullError,
    SerializationError,
)
from taskfleet.integrations.fastapi.answers import as_json
from taskfleet.integrations.fastapi.arguments import JsonText

_SAFE = "/-._~!$&'()*+,;=:@"  # what a path may hold as it is


def quoted(name: str) -> str:
    """The name of a task as a part of a path."""
    return quote(name, safe=_SAFE)


class BoundedRoute(APIRoute):
    """A route with a bound on its body, in bytes."""

    max_body_bytes = 1_048_576

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return functools.partial(self._handle, super().get_route_handler())

    async def _handle(self, handler: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
        try:
            return await handler(_TextRequest(request.scope, _bounded(request.receive, self.max_body_bytes)))
        except RequestValidationError as error:
            # It repeats what was sent, and JSON in Python may hold numbers that the answer's encoder refuses.
            problems = [{**each, "input": as_json(each.get("input"))} for each in error.errors()]
            raise RequestValidationError(problems, body=error.body) from None
        except PayloadTooLargeError as error:
            raise HTTPException(413, str(error)) from None
        except (SerializationError, ConfigurationError) as error:
            problem = {"type": "value_error", "loc": ("body",), "msg": str(error), "input": None}
            raise RequestValidationError([problem]) from None
        except QueueFullError as error:
            raise HTTPException(429, str(error)) from None
        except BrokerConnectionError as error:
            raise HTTPException(503, str(error)) from None


class QuotedRoute(BoundedRoute):
    """A route whose path is quoted, as OpenAPI shows it; servers unquote the path of a request."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        asked = {**scope, "path": quoted(scope["path"]), "root_path": quoted(scope.get("root_path", ""))}
        return super().matches(asked)


class OtherRoute(BoundedRoute):
    """A route with the parameter `task`, for the names that are not `offered`."""

    offered: Collection[str] = ()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is not Match.NONE and child_scope.get("path_params", {}).get("task") in self.offered:
            return Match.NONE, {}
        return match, child_scope


class _TextRequest(Request):
    """A request whose JSON stays a text: `arguments` reads it."""

    async def json(self) -> Any:
        return JsonText(await self.body())


def _bounded(receive: Receive, most: int) -> Receive:
    size = 0

    async def bounded() -> AsgiMessage:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > most:
                raise HTTPException(413, f"the body has more than {most} bytes")
        return message

    return bounded
