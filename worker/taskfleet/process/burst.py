"""A burst: a worker that ends when its queues are empty, for a job of `cron` or a test."""

from __future__ import annotations

import asyncio
import contextlib

from taskfleet import showing
from taskfleet.errors import BrokerConnectionError
from taskfleet.protocol.stats import QueueStats
from taskfleet.runtime.worker import Worker

logger = showing.logger("taskfleet.worker")

_LOOK_SECONDS = 0.2
_LOOKS = 2  # that find the queues empty: a signal may be on its way from a task that has just ended
_LOOKS_WITH_BLOCKED = 15  # while tasks wait for others, which may be in queues that other workers take


async def end_when_empty(worker: Worker) -> None:
    """Drain `worker` when its queues hold nothing that can run now.

    Tasks that run in other workers are waited for: they may fail, or send more. What waits for its time, and what is in
    a paused queue, stays for another worker; the log says how many.
    """
    broker, names = worker.sessions.broker, worker.selection.queues
    looks = 0
    while True:
        with contextlib.suppress(BrokerConnectionError):  # the worker itself waits for Redis, and logs it
            stats = await broker.stats_many(names)
            looks = looks + 1 if not any(map(_has_work, stats.values())) else 0
            blocked = any(each.blocked for each in stats.values())
            if looks >= (_LOOKS_WITH_BLOCKED if blocked else _LOOKS):
                break
        await asyncio.sleep(_LOOK_SECONDS)
    for name, each in stats.items():
        left = (("paused", each.ready if each.paused else 0), ("delayed", each.delayed), ("blocked", each.blocked))
        if counts := ", ".join(f"{number} {what}" for what, number in left if number):
            logger.warning("burst: queue %s keeps tasks for another worker: %s", name, counts)
    logger.info("burst: the queues are empty")
    worker.retire()


def _has_work(stats: QueueStats) -> bool:
    if stats.in_flight or stats.parked:
        return True
    return not stats.paused and bool(stats.ready or stats.due)
