"""One stream of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskfleet_dashboard.answers.answer import ErrorAnswer
from taskfleet_dashboard.answers.scalers import StreamEnd
from taskfleet_dashboard.events.hub import Hub, WatchedTopic
from taskfleet_dashboard.events.topics import Topic

_RETRY_MS = 2000
_SILENCE_SECONDS = 15.0  # then a comment keeps proxies from closing the connection
SLOW_SECONDS = 20.0  # a browser that takes no byte for so long is dropped; it connects again by itself
_LIFE_SECONDS = 900.0  # then the browser connects anew
_CHECK_SECONDS = 30.0  # how often it is asked whether this browser may still look


def event(name: str, data: bytes) -> bytes:
    """One event. JSON has no line breaks."""
    return b"event: " + name.encode("utf-8", "replace") + b"\ndata: " + data + b"\n\n"


class EventStream(Response):
    """The answer. It ends with the event `end`, which says whether to connect again."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        topics: Sequence[Topic],
        *,
        may_look: Callable[[], Awaitable[bool]] | None = None,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._topics = topics
        self._may_look = may_look
        self._slow_seconds = slow_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the browser goes, is too slow, or the dashboard ends."""
        hub, wake = self._hub, asyncio.Event()
        watched, refused = hub.join(self._topics, wake)
        hub.streams += 1
        gone = asyncio.create_task(self._gone(receive, wake))
        try:
            async with asyncio.timeout(self._slow_seconds):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._put(send, f"retry: {_RETRY_MS}\n\n".encode())
            for topic in refused:
                text = f"{hub.topics} topics are watched already, which is the most; {topic.name} is not among them"
                told = ErrorAnswer(error=text).model_dump_json().encode()
                for name in ("refused", f"error:{topic.name}"):  # for the stream, and for who shows that topic
                    await self._put(send, event(name, told))
            reason: str | None = "no topic of it can be watched now"
            if watched:
                reason = await self._follow(send, watched, wake, gone)
            if reason is not None:
                end = StreamEnd(reason=reason).model_dump_json().encode()
                await self._put(send, event("end", end), last=True)
        except TimeoutError:
            hub.dropped_total += 1
        finally:
            hub.streams -= 1
            hub.leave(watched, wake)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _follow(
        self, send: Send, watched: Sequence[WatchedTopic], wake: asyncio.Event, gone: asyncio.Task[None]
    ) -> str | None:
        """Send what is new, until the end; why it ends, `None` when the browser has gone."""
        sent = dict.fromkeys((each.topic.name for each in watched), 0)
        until = time.monotonic() + _LIFE_SECONDS
        check_at = time.monotonic() + _CHECK_SECONDS
        while not gone.done():
            wake.clear()
            for each in watched:
                if each.version != sent[each.topic.name]:
                    sent[each.topic.name] = each.version
                    await self._put(
                        send, event("error:" + each.topic.name if each.is_error else each.topic.name, each.data)
                    )
            if self._hub.ending.is_set():
                return "the dashboard ends"
            if time.monotonic() > until:
                return "a stream ends after 15 minutes"
            if self._may_look is not None and time.monotonic() >= check_at:
                if not await self._may_look():
                    return "you may not look at this dashboard any more"
                check_at = time.monotonic() + _CHECK_SECONDS
            try:
                async with asyncio.timeout(min(_SILENCE_SECONDS, _CHECK_SECONDS)):
                    await wake.wait()
            except TimeoutError:
                await self._put(send, b": here\n\n")
        return None

    async def _put(self, send: Send, data: bytes, *, last: bool = False) -> None:
        async with asyncio.timeout(self._slow_seconds):
            await send({"type": "http.response.body", "body": data, "more_body": not last})

    @staticmethod
    async def _gone(receive: Receive, wake: asyncio.Event) -> None:
        with contextlib.suppress(ClientDisconnect):
            while (await receive())["type"] != "http.disconnect":
                pass
        wake.set()
