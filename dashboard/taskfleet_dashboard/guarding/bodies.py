"""The size of what a request may carry, and the time that it may take."""

from __future__ import annotations

import asyncio
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 262_144
MOST_SECONDS = 30.0


class BodyLimit:
    """Stops reading a body that is larger, or that does not come; the answer is 413 or 408."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        size, whole, until = 0, False, time.monotonic() + MOST_SECONDS

        async def bounded() -> Message:
            nonlocal size, whole
            try:
                # What comes after the body is the end of the connection, for which a stream waits.
                async with asyncio.timeout(None if whole else until - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body has not come within {MOST_SECONDS:g} s") from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > MOST_BYTES:
                raise HTTPException(413, f"the body has more than {MOST_BYTES} bytes")
            return message

        await self._app(scope, bounded if scope["type"] == "http" else receive, send)
