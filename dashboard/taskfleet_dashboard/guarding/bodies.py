"""The size of what a request may carry."""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 262_144


class _TooLarge(Exception):
    pass


class BodyLimit:
    """Refuses a larger body before anybody has read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size, began = 0, False

        async def bounded() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MOST_BYTES:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, bounded, noted)
        except _TooLarge:
            if began:
                raise
            text = f"the body has more than {MOST_BYTES} bytes"
            await JSONResponse({"error": text, "login": None}, status_code=413)(scope, receive, send)
