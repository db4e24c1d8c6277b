"""The check of the header `Host`, against DNS rebinding.

A page of another site can let its own name lead to 127.0.0.1, and its scripts then read what they find there: for the
browser it is the site that they came from. Only the name tells them apart, so on loopback no other name is served.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address or name."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def name_of(header: str) -> str:
    """The name in a `Host` header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


class HostCheck:
    """Serves no request for another host than these; loopback addresses are always among them. `None`: any."""

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http" and self._hosts is not None:
            header = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
            name = name_of(header)
            if name not in self._hosts and not is_loopback(name):
                text = (
                    f"this dashboard is not served as {name[:100]!r}: open it at its own address, or allow the "
                    "name with --host-name"
                )
                await JSONResponse({"error": text, "login": None}, status_code=421)(scope, receive, send)
                return
        await self._app(scope, receive, send)
