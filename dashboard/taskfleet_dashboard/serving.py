"""One dashboard: its queues, its access method, and everything that lives as long as it does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Self

from prometheus_client.registry import Collector

from taskfleet import history, showing
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.process.exposition import exposition
from taskfleet.queue import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.permission import CommandCount, asked_before_each_command
from taskfleet_dashboard.access.logins import Logins
from taskfleet_dashboard.access.visitor import Access
from taskfleet_dashboard.changing.audit import Audit
from taskfleet_dashboard.changing.changes import Changes
from taskfleet_dashboard.changing.jobs import Jobs
from taskfleet_dashboard.desk import Desk
from taskfleet_dashboard.events.hub import Hub
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.metrics.collector import DashboardCollector, OwnFigures
from taskfleet_dashboard.metrics.readings import ScrapedReadings
from taskfleet_dashboard.metrics.requests import RequestFigures
from taskfleet_dashboard.reading.letters import LetterReader

logger = showing.logger("taskfleet.dashboard")

MOST_COMMANDS_PER_SECOND = 200.0
_ASKED_SECONDS = 1.0


class Serving:
    """Errors: `ConfigurationError` for queues that are not in Redis."""

    def __init__(
        self,
        queue: TaskQueue,
        access: Access,
        *,
        masks: Masks,
        records: bool,
        most_commands_per_second: float = MOST_COMMANDS_PER_SECOND,
    ) -> None:
        if not isinstance(queue.broker, RedisBroker):
            raise ConfigurationError("the dashboard shows queues in Redis; this TaskQueue has its queues in memory")
        self.queue = queue
        self.access = access
        self.masks = masks
        self.logins = Logins()
        self.audit = Audit()
        self.jobs = Jobs(self.audit)
        self.pace = ReadingPace(most_commands_per_second)
        self.desk = Desk(queue, self.pace, masks, self.jobs, self.audit)
        self.letters = LetterReader(queue, self.desk.tasks_)
        self.hub = Hub(self.pace, self.desk.topics())
        self._records = records
        self._recording: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._asked_at = -_ASKED_SECONDS
        self._problem: str | None = None
        self.requests = RequestFigures()
        self._recorded = CommandCount()
        self._scraped = ScrapedReadings(self.desk)
        own = OwnFigures(self.requests, self.hub, self.pace, self.jobs, self._recorded, lambda: self._scraped.unread)
        self._collector = DashboardCollector(own)

    def changes(self, user: str) -> Changes:
        """What can be changed, in the name of a user."""
        return Changes(self.queue, self.desk.broker, self.letters, self.jobs, self.audit, user)

    async def __aenter__(self) -> Self:
        if self._records:
            recorder = history.Recorder(self.desk.broker)
            with asked_before_each_command(self._recorded):
                self._recording = asyncio.create_task(recorder.run(), name="taskfleet dashboard: recorder")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.hub.close()
        await self.jobs.close()
        if self._recording is not None:
            self._recording.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._recording

    async def problem(self) -> str | None:
        """Why it cannot serve, in one line. Anybody may ask, so Redis is asked at most once a second."""
        async with self._asking:
            now = time.monotonic()
            if now - self._asked_at >= _ASKED_SECONDS:
                self._problem = None
                try:
                    await self.desk.broker.ping()
                except TaskQueueError as error:
                    self._problem = showing.shown(" ".join(str(error).split()))
                self._asked_at = time.monotonic()
            return self._problem

    async def metrics(self, accept: str, *, all_of_it: bool) -> tuple[bytes, str]:
        """The metrics of the dashboard, with `all_of_it` also of queues, fleet and Redis, and their content type."""
        collector: Collector = self._collector
        if all_of_it:
            collector = self._collector.with_readings(await self._scraped.read())
        return exposition(collector, accept)
