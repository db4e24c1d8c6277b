"""The overview, and the heaviest keys."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from taskfleet_dashboard.answers.overview import OverviewAnswer
from taskfleet_dashboard.answers.queues import AllKeysAnswer
from taskfleet_dashboard.routes.asking import Viewing
from taskfleet_dashboard.routes.parameters import QueueFilter, Search

MOST_ROWS = 500
Sort = Literal[
    "name", "state", "ready", "running", "delayed", "blocked", "dead", "oldest", "in", "out", "failed", "drains"
]

router = APIRouter(tags=["fleet"])


@router.get("/overview")
async def overview(
    visit: Viewing,
    sort: Annotated[Sort, Query(description="The largest first; names and states from A.")] = "name",
    search: Search = "",
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
) -> OverviewAnswer:
    """The fleet at this moment: sums, workers, a part of the queues, the last failures, the autoscalers."""
    return await visit.desk.overview(sort, search, offset, limit)


@router.get("/keys")
async def keys(visit: Viewing, queue: QueueFilter = None) -> AllKeysAnswer:
    """The heaviest limit and fair keys over all queues, or of one."""
    return await visit.desk.all_keys(queue)
