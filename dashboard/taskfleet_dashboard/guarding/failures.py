"""Errors of the dashboard itself: one line for whoever asked, and the rest in the log.

It stands within the other guards, so that such an answer has the headers of every answer and is counted. What stands
outside of all (Starlette's own) would send it without.
"""

from __future__ import annotations

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskfleet import showing

logger = showing.logger("taskfleet.dashboard")


class FailureAnswers:
    """Answers 500 for what nothing else has caught. An answer that has begun is broken off."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            path = showing.shown(scope["path"], 200)
            logger.error("%s %s failed", showing.shown(scope["method"], 20), path, exc_info=error)
            text = "the dashboard has met an error of its own; its log has the details"
            await JSONResponse({"error": text, "login": None}, status_code=500)(scope, receive, send)
