"""Pages of tasks, one task, its workflow, and what can be done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from taskfleet_dashboard.answers.answer import DoneAnswer
from taskfleet_dashboard.answers.tasks import GraphAnswer, TaskAnswer, TaskPageAnswer
from taskfleet_dashboard.routes.asking import Changing, Viewing
from taskfleet_dashboard.routes.parameters import Cursor, Limit, QueueFilter, TaskFilter, TaskId

State = Literal[
    "delayed", "blocked", "ready", "running", "retrying", "succeeded", "failed", "dead", "cancelled", "expired"
]
Text = Annotated[
    str,
    Query(max_length=1000, description="Only those with this text in name, arguments or errors, or at the id's start."),
]
Key = Annotated[str, Query(max_length=1000, description="Only those with this unique, limit or fair key.")]

router = APIRouter(prefix="/tasks", tags=["tasks"])


@router.get("")
async def tasks(
    visit: Viewing,
    queue: QueueFilter = None,
    state: State | None = None,
    task: TaskFilter = None,
    q: Text = "",
    key: Key = "",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> TaskPageAnswer:
    """A page of tasks: those that run, then those that wait, then those that have ended."""
    return await visit.desk.tasks(queue, state=state, task=task, q=q, key=key, cursor=cursor, limit=limit)


@router.get("/{id}")
async def task(visit: Viewing, task_id: TaskId) -> TaskAnswer:
    """A task in full, with its life."""
    return await visit.desk.task(task_id)


@router.get("/{id}/graph")
async def graph(visit: Viewing, task_id: TaskId) -> GraphAnswer:
    """The workflow around a task, as far as it is found."""
    return await visit.desk.graph(task_id)


@router.post("/{id}/cancel")
async def cancel(visit: Changing, task_id: TaskId) -> DoneAnswer:
    """Cancel a task: a waiting one at once, a running one through its worker."""
    return await visit.changes.cancel(task_id)


@router.post("/{id}/retry")
async def retry(visit: Changing, task_id: TaskId) -> DoneAnswer:
    """Send a dead letter back to its queue, with all its attempts before it."""
    return await visit.changes.retry(task_id)
