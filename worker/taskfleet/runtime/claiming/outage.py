"""Outages of Redis: the behaviour of a worker while its calls fail."""

from __future__ import annotations

import asyncio
import contextlib
import time

from redis import exceptions as redis_exceptions

from taskfleet import showing
from taskfleet.backoff import backoff_seconds
from taskfleet.redis.redis_errors import connection_error
from taskfleet.runtime.recording.outbox import Outbox
from taskfleet.runtime.state.health import Health
from taskfleet.runtime.state.held import Held
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection

logger = showing.logger("taskfleet.worker")


class Outage:
    """Counts calls that failed for the state of Redis or of the connection, and waits between them."""

    def __init__(self, context: RunContext, health: Health, selection: Selection, outbox: Outbox, held: Held) -> None:
        self._context = context
        self._health = health
        self._selection = selection
        self._outbox = outbox
        self._held = held
        self.failures = 0  # failed calls in a row
        self.longest_lease = 0.0  # seconds, of all queues that the worker serves

    async def failed(self, error: Exception) -> None:
        """A call has failed: wait before the next."""
        self.failures += 1
        if self._health.failing_since is None:
            self._health.failing_since = time.monotonic()
        if self.failures == 1 or self.failures % 20 == 0:
            problem = connection_error(self._context.broker.url, error)
            logger.warning("%s (trying again, %d so far)", problem, self.failures)
        await self.drop_connection(error)
        self._selection.all_hot()
        if self._health.draining and time.monotonic() - self._health.last_renewal > self.longest_lease:
            self._give_up()
            return
        await asyncio.sleep(backoff_seconds(self.failures))

    async def drop_connection(self, error: Exception) -> None:
        """Let the broker react to a failed call."""
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            await self._context.broker.dropped(error)

    def _give_up(self) -> None:
        """Stop the tasks: other workers may have them by now, and a draining worker must end some time."""
        outcomes = sum(len(box) for box in self._outbox.values())
        logger.warning("Redis is away for longer than a lease: %d outcomes are given up", outcomes)
        self._outbox.clear()
        self._held.clear()

    def ended(self) -> None:
        """A call was answered."""
        health = self._health
        if self.failures:
            logger.info("Redis answers again")
            self.failures = 0
        health.failing_since = None
