"""Autoscalers: what they decided, why, and what they would have decided."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from taskfleet_dashboard.answers.answer import Answer, Order


class ScalerPoint(Answer):
    """One decision, or one minute of the day's figures."""

    at: datetime
    """When."""
    replicas: int
    """Workers that there were."""
    desired: int
    """Workers that there should be."""
    busy: float | None
    """Workers that ran something."""
    reason: str
    """The decision in one word; empty in the figures of a day."""
    message: str
    """The decision in one line."""
    limited_by: str
    """What keeps it from more or fewer; empty for nothing."""
    limit_message: str
    """That in one line."""
    terms: dict[str, float | None]
    """The terms of the decision: workers for each."""


class ScalerAnswer(Answer):
    """One autoscaler over time."""

    name: str
    """`namespace/name`."""
    spec: dict[str, Any] | None
    """Its `autoscaler` settings as in the resource, at the last decision."""
    points: list[ScalerPoint]
    """The oldest first."""


class QueueTermRow(Answer):
    """What one queue contributes to a decision."""

    queue: str
    """The queue."""
    terms: dict[str, float | None]
    """Its terms by name, in workers, tasks or seconds as the name says."""


class DecisionAnswer(ScalerPoint):
    """One decision in full."""

    queues: list[QueueTermRow]
    """By queue."""
    sample: dict[str, Any]
    """The figures that it was made from."""
    spec: dict[str, Any] | None
    """The `autoscaler` settings that it was made with."""


class WhatIfOrder(Order):
    """Changed fields of `spec.autoscaler`, as in the resource: `{"targetLatencySeconds": 5}`."""

    model_config = ConfigDict(extra="allow", frozen=True)


class WhatIfPoint(Answer):
    """One recorded sample, decided anew."""

    at: datetime
    """When it was recorded."""
    replicas: int
    """Workers that there were."""
    desired: int
    """What was decided."""
    would: int
    """What the changed settings decide for the same sample."""
    reason: str
    """That decision in one word."""
    message: str
    """That decision in one line."""


class WhatIfAnswer(Answer):
    """What the changed settings would have decided. The backlog stays the recorded one."""

    points: list[WhatIfPoint]
    """The oldest first."""
    summary: str
    """In one or two sentences."""


class ExplainLine(Answer):
    """One term of a decision, in words."""

    name: str
    """Its name."""
    value: float | None
    """Its number."""
    text: str
    """What is counted, in words that follow the number."""


class ExplainAnswer(Answer):
    """The last decision in words and numbers."""

    name: str
    """`namespace/name`."""
    at: datetime
    """When it was decided."""
    replicas: int
    """Workers that there were."""
    desired: int
    """Workers that there should be."""
    why: str
    """Why this many, in one or two sentences."""
    limit: str
    """What keeps it from more or fewer; empty for nothing."""
    lines: list[ExplainLine]
    """The terms."""
    changes: list[str]
    """What would change it, one sentence each."""


class AuditRow(Answer):
    """One change that somebody made, or was refused."""

    at: datetime
    """When."""
    user: str
    """Who."""
    action: str
    """What: `pause`, `purge`, `requeue`…"""
    subject: str
    """Of what: a queue, a task, a schedule."""
    detail: str
    """More, in one line; never a payload."""
    outcome: str
    """`done`, or why not."""


class AuditAnswer(Answer):
    """The record of changes, the latest first."""

    items: list[AuditRow]
    """The changes."""
    cursor: str | None
    """Where the next page goes on; null after the last."""


class StreamEnd(Answer):
    """The data of the event `end`, the last of a stream."""

    reason: str
    """Why it ends, in one line."""
