"""Autoscalers: their decisions, what-if, and the last decision in words."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from taskfleet_dashboard.answers.scalers import DecisionAnswer, ExplainAnswer, ScalerAnswer, WhatIfAnswer, WhatIfOrder
from taskfleet_dashboard.routes.asking import Asking, Viewing

Namespace = Annotated[str, Path(max_length=253, description="Of the TaskQueue; `local` for one of `taskfleet up`.")]
Name = Annotated[str, Path(max_length=253, description="The name of the TaskQueue.")]

router = APIRouter(tags=["autoscaler"])


@router.get("/scalers/{namespace}/{name}")
async def scaler(
    visit: Viewing, namespace: Namespace, name: Name, span: Annotated[Literal["1h", "24h"], Query()] = "1h"
) -> ScalerAnswer:
    """Replicas, wanted and busy over time: every decision of the last hour, or a figure a minute of the last day."""
    return await visit.desk.scaler(f"{namespace}/{name}", span)


@router.get("/scalers/{namespace}/{name}/decisions/{at}")
async def decision(visit: Viewing, namespace: Namespace, name: Name, at: datetime) -> DecisionAnswer:
    """One decision with all its terms."""
    return await visit.desk.decision(f"{namespace}/{name}", at)


@router.post("/scalers/{namespace}/{name}/what-if")
async def what_if(visit: Asking, namespace: Namespace, name: Name, order: WhatIfOrder) -> WhatIfAnswer:
    """What changed settings would have decided over the recorded hour. It changes nothing, so viewers may ask."""
    return await visit.desk.what_if(f"{namespace}/{name}", order.model_extra or {})


@router.get("/explain/{namespace}/{name}")
async def explain(visit: Viewing, namespace: Namespace, name: Name) -> ExplainAnswer:
    """The last decision in words and numbers: why this many, what limits it, what would change it."""
    return await visit.desk.explain(f"{namespace}/{name}")
