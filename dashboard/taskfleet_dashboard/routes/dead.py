"""Dead letters, and the jobs about many of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query

from taskfleet_dashboard.answers.dead import DeadAnswer, DeadMatch, DeadOrder, DeadPageAnswer, JobAnswer, JobStarted
from taskfleet_dashboard.routes.asking import Changing, Viewing
from taskfleet_dashboard.routes.parameters import Cursor, Limit, QueueFilter, TaskFilter, TaskId

Text = Annotated[
    str | None,
    Query(max_length=1000, description="Only those with this text in name, arguments or errors, or at the id's start."),
]
Reason = Annotated[str | None, Query(max_length=1000, description="Only those with this reason.")]
JobId = Annotated[str, Path(max_length=100)]

router = APIRouter(tags=["dead letters"])


@router.get("/dead")
async def letters(
    visit: Viewing,
    queue: QueueFilter = None,
    task: TaskFilter = None,
    reason: Reason = None,
    q: Text = None,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> DeadPageAnswer:
    """A page of dead letters, of each queue the latest first."""
    match = DeadMatch(queue=queue, task=task, reason=reason, q=q, since=since, until=until)
    return await visit.desk.letters(match, cursor, limit)


@router.post("/dead/requeue", status_code=202)
async def requeue(visit: Changing, order: DeadOrder) -> JobStarted:
    """Send dead letters back to their queues, with all their attempts before them."""
    return await visit.changes.start("requeue", order)


@router.post("/dead/discard", status_code=202)
async def discard(visit: Changing, order: DeadOrder) -> JobStarted:
    """Delete dead letters. For ten minutes the job can be undone, for as many letters as it says."""
    return await visit.changes.start("discard", order)


@router.get("/dead/{id}")
async def letter(visit: Viewing, task_id: TaskId) -> DeadAnswer:
    """A dead letter in full."""
    return await visit.desk.letter(task_id)


@router.get("/jobs/{job}")
async def job(visit: Viewing, job: JobId) -> JobAnswer:
    """How far a job is."""
    return await visit.desk.job(job)


@router.post("/jobs/{job}/undo")
async def undo(visit: Changing, job: JobId) -> JobAnswer:
    """Bring the letters of a discard back."""
    return await visit.changes.undo(job)
