"""The cookies: where they are sent to, and what the one of a session holds."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import HTTPConnection
from starlette.responses import Response

SESSION_COOKIE = "taskfleet_session"
TOKEN_HEADER = "X-Taskfleet-Token"  # noqa: S105 - a name
"""As `Authorization`, where something on the way keeps that: the API server of Kubernetes does as a proxy."""
_SECONDS = 12 * 3600
_MOST_CHARACTERS = 4000


def session_of(token: str) -> str:
    """A token as a cookie can hold it. No script can read the cookie, and no other site makes a browser send it."""
    return base64.urlsafe_b64encode(token.encode("utf-8", "replace")).decode().rstrip("=")


def token_of(request: HTTPConnection) -> str:
    """The token of a request: of `Authorization: Bearer …`, else of `TOKEN_HEADER`, else of its session, or empty."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if passed := request.headers.get(TOKEN_HEADER, ""):
        return passed.strip()
    held = request.cookies.get(SESSION_COOKIE, "")
    if not held or len(held) > _MOST_CHARACTERS:
        return ""
    try:
        return base64.urlsafe_b64decode(held + "=" * (-len(held) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


def has_bearer(request: HTTPConnection) -> bool:
    """Whether it has a token in a header, which no browser sends unasked."""
    return bool(request.headers.get(TOKEN_HEADER)) or request.headers.get("authorization", "").lower().startswith(
        "bearer "
    )


def has_login(request: HTTPConnection) -> bool:
    """Whether it has any login in a header, also one that nobody takes here."""
    return TOKEN_HEADER in request.headers or "authorization" in request.headers


def set_cookie(response: Response, request: HTTPConnection, name: str, value: str) -> None:
    """Set a cookie for this dashboard alone, for twelve hours."""
    response.set_cookie(
        name,
        value,
        max_age=_SECONDS,
        path=f"{request.scope.get('root_path', '')}/",
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
        httponly=True,
        samesite="strict",
    )
