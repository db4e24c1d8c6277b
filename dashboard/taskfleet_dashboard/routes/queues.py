"""One queue, and what can be done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from taskfleet_dashboard.answers.answer import DoneAnswer
from taskfleet_dashboard.answers.queues import HistoryAnswer, PurgeOrder, QueueAnswer
from taskfleet_dashboard.routes.asking import Changing, Viewing
from taskfleet_dashboard.routes.parameters import QueueName

router = APIRouter(prefix="/queues/{queue}", tags=["queues"])


@router.get("")
async def queue(visit: Viewing, queue: QueueName) -> QueueAnswer:
    """A queue: its figures, partitions, options, limits and heaviest keys."""
    return await visit.desk.queue(queue)


@router.get("/history")
async def history(
    visit: Viewing, queue: QueueName, span: Annotated[Literal["1h", "24h", "7d"], Query()] = "1h"
) -> HistoryAnswer:
    """The figures of a queue over time."""
    return await visit.desk.history(queue, span)


@router.post("/pause")
async def pause(visit: Changing, queue: QueueName) -> DoneAnswer:
    """Let workers claim no more tasks of the queue; tasks that run go on."""
    return await visit.changes.pause(queue)


@router.post("/resume")
async def resume(visit: Changing, queue: QueueName) -> DoneAnswer:
    """Let workers claim tasks of a paused queue again."""
    return await visit.changes.resume(queue)


@router.post("/purge")
async def purge(visit: Changing, queue: QueueName, order: PurgeOrder) -> DoneAnswer:
    """Delete all tasks that wait in the queue. This cannot be undone."""
    return await visit.changes.purge(queue, order.confirm)
