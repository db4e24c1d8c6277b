"""Schedules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from taskfleet_dashboard.answers.answer import DoneAnswer
from taskfleet_dashboard.answers.fleet import SchedulesAnswer
from taskfleet_dashboard.routes.asking import Changing, Viewing
from taskfleet_dashboard.routes.parameters import QueueName

Name = Annotated[str, Path(max_length=1000, description="The name of the schedule.")]

router = APIRouter(prefix="/schedules", tags=["schedules"])


@router.get("")
async def schedules(visit: Viewing) -> SchedulesAnswer:
    """All schedules, with their next ticks and their last outcome."""
    return await visit.desk.schedules()


@router.post("/{queue}/{name}/run")
async def run(visit: Changing, queue: QueueName, name: Name) -> DoneAnswer:
    """Send the task of a schedule now, beside its ticks; `detail` is its id."""
    return await visit.changes.run_schedule(queue, name)


@router.post("/{queue}/{name}/pause")
async def pause(visit: Changing, queue: QueueName, name: Name) -> DoneAnswer:
    """Keep a schedule without ticks."""
    return await visit.changes.pause_schedule(queue, name, paused=True)


@router.post("/{queue}/{name}/resume")
async def resume(visit: Changing, queue: QueueName, name: Name) -> DoneAnswer:
    """Let a paused schedule tick again, from now on."""
    return await visit.changes.pause_schedule(queue, name, paused=False)
