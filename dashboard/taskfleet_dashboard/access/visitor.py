"""A visitor, and the port of an access method."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.requests import HTTPConnection

_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request, and whether they may change anything. `user` is what the audit record names."""

    user: str
    may_change: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "user", self.user[:_MOST_CHARACTERS])


class AccessDenied(Exception):
    """The request comes from somebody who may not look. The text says why, in one line."""

    def __init__(self, text: str, *, status: int = 401) -> None:
        super().__init__(text)
        self.status = status


class Access(Protocol):
    """An access method."""

    login: str | None
    """`token` when a browser can log in with a token."""

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends it. Errors: `AccessDenied`."""
        ...

    async def of_token(self, token: str) -> Visitor:
        """Who has that token. Errors: `AccessDenied`."""
        ...

    def is_ambient(self, request: HTTPConnection) -> bool:
        """Whether a browser sends what this request is known by without being asked, as it does a cookie."""
        ...


Answer = Visitor | bool | None
AccessCallable = Callable[[HTTPConnection], Answer | Awaitable[Answer]]
"""Gets the request. `True` may change, `False` and `None` may not even look."""


class CallableAccess:
    """The access method of an application that mounts the dashboard: any function of the request."""

    login: str | None = None

    def __init__(self, ask: AccessCallable) -> None:
        self._ask = ask

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends it, as the application says. Errors: `AccessDenied`."""
        found: Any = self._ask(request)
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, Visitor):
            return found
        if found is True:
            return Visitor("", may_change=True)
        raise AccessDenied("you may not see this dashboard: log in to the application it is part of", status=403)

    async def of_token(self, token: str) -> Visitor:
        """There are no tokens."""
        raise AccessDenied("this dashboard has no login of its own", status=404)

    def is_ambient(self, request: HTTPConnection) -> bool:
        """An application may know its users by a cookie."""
        return True


class OpenAccess(CallableAccess):
    """Everybody who reaches the dashboard may change everything: on loopback, where only this machine reaches it."""

    def __init__(self) -> None:
        super().__init__(lambda _request: True)


class ReadOnly:
    """Another access method, whose visitors may look and nothing else."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.login = access.login

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who sends it. Errors: `AccessDenied`."""
        return Visitor((await self._access.visitor(request)).user)

    async def of_token(self, token: str) -> Visitor:
        """Who has that token. Errors: `AccessDenied`."""
        return Visitor((await self._access.of_token(token)).user)

    def is_ambient(self, request: HTTPConnection) -> bool:
        """As of the other method."""
        return self._access.is_ambient(request)
