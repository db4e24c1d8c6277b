"""The figures of queues, fleet and Redis for a scrape: the readings of the pages, which are shared and paced."""

from __future__ import annotations

import asyncio
import time

from taskfleet.errors import BrokerConnectionError
from taskfleet.fleet_metrics import FleetFigures, Readings, RedisServers
from taskfleet.protocol.stats import ServerMemory
from taskfleet.protocol.worker_info import serving
from taskfleet.redis import urls
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet_dashboard.desk import Desk

_MEMORY_SECONDS = 15.0


class ScrapedReadings:
    """Reads for scrapes. One reads at a time, and all within a second get the same."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._one = asyncio.Lock()
        self._memory: list[ServerMemory] = []
        self._memory_at = float("-inf")
        self.unread = 0
        """Queues that no reading has reached yet: a reading takes so many of them, and the next one the others."""

    async def read(self) -> Readings:
        """The last readings. A Redis that does not answer has none but that."""
        async with self._one:
            address = urls.address(self._desk.broker.url)
            try:
                snapshot = await self._desk.snapshot()
                memory = await self._servers()
            except CallRefusedError:
                return Readings(redis=[RedisServers(address, reachable=True)])
            except BrokerConnectionError:
                return Readings(redis=[RedisServers(address, reachable=False)])
            self.unread = snapshot.unread
            workers = [line.info for line in snapshot.workers]
            figures = FleetFigures(
                queues={line.name: line.stats for line in snapshot.queues if line.stats is not None},
                workers=workers,
                serving=serving(workers),
            )
            return Readings([figures], [RedisServers(address, reachable=True, servers=memory)])

    async def _servers(self) -> list[ServerMemory]:
        """How full Redis is, looked at every 15 s; nothing for a user that may not run `INFO`."""
        now = time.monotonic()
        if now - self._memory_at >= _MEMORY_SECONDS:
            self._memory_at = now
            try:
                self._memory = await self._desk.broker.memory()
            except CallRefusedError:
                self._memory = []
        return self._memory
