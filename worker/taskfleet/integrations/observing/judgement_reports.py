"""The reports that judge: alerts and objectives."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from taskfleet.integrations.observing.report import Report


class AlertReport(Report):
    """One rule that does not hold."""

    rule: str
    """The name of the rule."""
    severity: Literal["warning", "critical"]
    """`critical` when tasks stand still or may be lost."""
    queue: str | None
    """The queue that it is about."""
    subject: str | None
    """The worker or the server that it is about."""
    value: float | None
    """What was found."""
    threshold: float | None
    """What the rule allows."""
    message: str
    """What it means, in one sentence."""


class UnknownReport(Report):
    """One thing that cannot be judged."""

    rule: str
    """The name of the rule."""
    reason: str
    """What is missing."""


class AlertsReport(Report):
    """The rules that do not hold now."""

    alerts: list[AlertReport]
    """What is wrong now, critical first."""
    unknown: list[UnknownReport]
    """The rules that could not be judged: no alert of such a rule is no good news."""
    window_seconds: float | None
    """The window of the rules that compare counters. Null at the first look of this process."""
    at: datetime
    """The clock of this process."""


class ObjectiveReport(Report):
    """One objective of one queue."""

    queue: str
    """The queue."""
    objective: Literal["start_within_seconds", "success_ratio"]
    """`start_within_seconds`: the head of the queue waits no longer. `success_ratio`: at least this part of the tasks
    that ended in the window became no dead letter."""
    target: float
    """What was promised: an option of the router."""
    value: float | None
    """What was found. Null when it is not known."""
    met: bool | None
    """Whether it was kept. Null when it is not known."""


class SlaReport(Report):
    """Whether the objectives are met."""

    met: bool | None
    """False when any objective is not met; else null when any is not known; else true."""
    objectives: list[ObjectiveReport]
    """By queue."""
    window_seconds: float | None
    """The window of `success_ratio`. Null at the first look of this process."""
    at: datetime
    """The clock of this process."""
