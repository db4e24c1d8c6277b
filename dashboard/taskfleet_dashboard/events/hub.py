"""The hub: reads each watched topic once for all who watch it, one after the other, and wakes their streams.

A stream sends the latest reading of each of its topics and skips those that it was too slow for, so nothing queues up
for anybody. While nobody watches, nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence

from pydantic import BaseModel

from taskfleet import showing
from taskfleet.errors import TaskQueueError
from taskfleet_dashboard.answers.answer import ErrorAnswer
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.events.topics import Kind, Topic, parsed
from taskfleet_dashboard.refusals import Refused

logger = showing.logger("taskfleet.dashboard")

MOST_TOPICS, MOST_STREAMS = 64, 500
_LOOK_SECONDS = 0.25  # how often the end of the server is looked for
_REDIS_GONE_SECONDS = 2.0  # between two tries


class WatchedTopic:
    """A topic that somebody watches, and its latest reading."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.watchers: set[asyncio.Event] = set()
        self.due = 0.0
        self.version = 0
        self.data = b""
        self.is_error = False

    def take(self, data: bytes, *, is_error: bool) -> None:
        """A new reading. One that is equal to the last wakes nobody."""
        if (data, is_error) != (self.data, self.is_error):
            self.data, self.is_error = data, is_error
            self.version += 1
            for watcher in self.watchers:
                watcher.set()


class Hub:
    """All topics and streams of one dashboard. `kinds` are the topics by the head of their name."""

    def __init__(self, pace: ReadingPace, kinds: dict[str, Kind], *, most_topics: int = MOST_TOPICS) -> None:
        self.pace = pace
        self.kinds = kinds
        self.ending = asyncio.Event()
        self.streams = 0
        self.dropped_total = 0
        self.refused_streams_total = 0
        self.refused_topics_total = 0
        self._most_topics = most_topics
        self._watched: dict[str, WatchedTopic] = {}
        self._running: asyncio.Task[None] | None = None
        self._more = asyncio.Event()

    @property
    def topics(self) -> int:
        """The number of topics that are watched."""
        return len(self._watched)

    def admit(self, topics: str) -> list[Topic]:
        """The topics of a stream that may begin. Errors: `Refused`."""
        wanted = parsed(topics, self.kinds)
        if self.ending.is_set():
            raise Refused(503, "the dashboard is ending")
        if self.streams >= MOST_STREAMS:
            self.refused_streams_total += 1
            raise Refused(503, f"{MOST_STREAMS} pages are open already, which is the most; close one, or reload later")
        return wanted

    def join(self, topics: Sequence[Topic], wake: asyncio.Event) -> tuple[list[WatchedTopic], list[Topic]]:
        """Watch these topics: those that are watched from now on, and those for which there is no room."""
        watched: list[WatchedTopic] = []
        refused: list[Topic] = []
        for topic in topics:
            found = self._watched.get(topic.name)
            if found is None:
                if len(self._watched) >= self._most_topics:
                    refused.append(topic)
                    self.refused_topics_total += 1
                    continue
                found = self._watched[topic.name] = WatchedTopic(topic)
            found.watchers.add(wake)
            watched.append(found)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="taskfleet dashboard: pollers")
        self._more.set()
        return watched, refused

    def leave(self, watched: Sequence[WatchedTopic], wake: asyncio.Event) -> None:
        """Watch them no more."""
        for each in watched:
            each.watchers.discard(wake)
            if not each.watchers and self._watched.get(each.topic.name) is each:
                del self._watched[each.topic.name]

    async def _run(self) -> None:
        """Read what is due, one topic at a time, until nobody watches any more."""
        while self._watched and not self.ending.is_set():
            self._more.clear()
            next_one = min(self._watched.values(), key=lambda each: each.due)
            pause = min(next_one.due - time.monotonic(), _LOOK_SECONDS)
            if server_is_ending():
                self.end()
                return
            if pause > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._more.wait()
                continue
            await self._read(next_one)

    async def _read(self, watched: WatchedTopic) -> None:
        topic, is_error = watched.topic, False
        seconds = topic.kind.seconds
        try:
            async with self.pace.reading():
                if not watched.watchers:
                    return  # nobody watches it any more
                data = _packed(await topic.kind.read(topic.subject))
        except (Refused, TaskQueueError) as error:
            is_error, data = True, _packed(ErrorAnswer(error=showing.shown(" ".join(str(error).split()), 1000)))
            seconds = max(seconds, _REDIS_GONE_SECONDS)
        except Exception as error:
            logger.error("topic %s cannot be read", topic.name, exc_info=error)
            told = ErrorAnswer(error="the dashboard has met an error of its own; its log has the details")
            is_error, data = True, _packed(told)
            seconds = max(seconds, 10.0)
        watched.due = time.monotonic() + seconds
        watched.take(data, is_error=is_error)

    def end(self) -> None:
        """End all streams; their browsers connect again."""
        self.ending.set()
        for each in list(self._watched.values()):
            for watcher in each.watchers:
                watcher.set()

    async def close(self) -> None:
        """End all streams, and the pollers."""
        self.end()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running


def _packed(answer: BaseModel) -> bytes:
    return answer.model_dump_json(by_alias=True).encode("utf-8", "replace")


def server_is_ending() -> bool:
    """Whether uvicorn ends. It waits for all answers before it tells the application, and a stream would not end.

    A dashboard that is mounted is not told at all.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
