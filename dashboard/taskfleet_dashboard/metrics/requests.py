"""Counts requests by route and status, and the commands that they send to Redis."""

from __future__ import annotations

from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskfleet.redis.permission import CommandCount, asked_before_each_command

NO_ROUTE = "none"
"""The route of a request that was refused before there was one: a wrong host, or a method that nothing answers to."""

_API = "/api"


class RequestFigures:
    """Requests that were answered, by route and status. A route is a pattern of the API, so there are few."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.commands = CommandCount()
        """The commands that requests have sent, those of streams excepted."""


class CountedRequests:
    """Counts each request when its answer begins, so that a stream counts while it is open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        figures: RequestFigures = scope["app"].state.serving.requests

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                figures.answered[_route(scope), message["status"]] += 1
            await send(message)

        with asked_before_each_command(figures.commands):
            await self._app(scope, receive, counted)


def _route(scope: Scope) -> str:
    """The pattern of the route. One of an included router does not know the prefix that it was included with."""
    pattern = getattr(scope.get("route"), "path", None)
    if not isinstance(pattern, str):
        return NO_ROUTE
    path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
    return _API + pattern if path.startswith(f"{_API}/") and not pattern.startswith(_API) else pattern
