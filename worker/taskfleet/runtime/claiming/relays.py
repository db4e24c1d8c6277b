"""Relays: they signal the ends of tasks to the tasks of other queues that wait for them."""

from __future__ import annotations

import asyncio

from taskfleet import showing
from taskfleet.backoff import backoff_seconds
from taskfleet.cancellation import end
from taskfleet.errors import TaskQueueError
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.run_context import RunContext

logger = showing.logger("taskfleet.worker")

_LEAVE_SECONDS = 5.0  # how long signals in progress may take when the worker ends


class Relays:
    """Delivers the signals of one partition at a time to others. Failed signals stay in Redis until the next time."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._tasks: dict[Partition, asyncio.Task[None]] = {}

    def start(self, partition: Partition) -> None:
        """Deliver the signals of a partition, unless that is in progress already."""
        if partition not in self._tasks:
            self._tasks[partition] = self._context.spawn(self._relay(partition))

    async def _relay(self, partition: Partition) -> None:
        try:
            await self._context.broker.relay(partition)
        except TaskQueueError as error:
            logger.warning("queue %s: signals of workflows wait: %s", partition, error)
            await asyncio.sleep(backoff_seconds(3))
        except Exception:
            logger.exception("queue %s: signals of workflows wait", partition)
            await asyncio.sleep(backoff_seconds(3))
        finally:
            del self._tasks[partition]

    async def close(self) -> None:
        """Wait for signals in progress, for a limited time."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=_LEAVE_SECONDS)
        await end(self._tasks.values())
