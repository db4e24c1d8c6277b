"""Live updates as server-sent events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from taskfleet_dashboard.routes.asking import Viewing

router = APIRouter(tags=["events"])


@router.get("/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
async def events(
    visit: Viewing,
    topics: Annotated[
        str,
        Query(
            max_length=4096,
            description="Comma-separated: overview, queue:NAME, task:ID, workers, scaler:NS/NAME, dead, "
            "schedules, job:ID.",
        ),
    ],
) -> Response:
    """A stream of events, each named by its topic, with the body of its GET as data. The event `end` is the last."""
    return visit.stream(topics)
