"""The overview of a fleet."""

from __future__ import annotations

from datetime import datetime

from taskfleet_dashboard.answers.answer import Answer
from taskfleet_dashboard.answers.queues import QueueRow


class Totals(Answer):
    """The sums over all queues."""

    ready: int
    """Tasks that wait for a worker."""
    running: int
    """Tasks that are claimed."""
    delayed: int
    """Tasks that wait for their time."""
    blocked: int
    """Tasks that wait for other tasks."""
    dead: int
    """Dead letters."""
    in_per_second: float | None
    """Tasks accepted. Null before the second reading, as for the next two."""
    out_per_second: float | None
    """Tasks that ended."""
    failed_per_second: float | None
    """Tasks that became dead letters."""
    drains_in_seconds: float | None
    """When nothing will be ready any more at these rates. Null when the backlog does not fall."""


class WorkerTotals(Answer):
    """The workers, by what they do."""

    total: int
    """All that live."""
    busy: int
    """Those that claim and run something."""
    idle: int
    """Those that claim and run nothing."""
    cordoned: int
    """Those that claim nothing, since they are cordoned or drained."""
    draining: int
    """Those that end."""
    slots: int
    """Of those that claim."""
    running: int
    """Tasks that run."""


class FailureRow(Answer):
    """A task that has failed for good lately."""

    id: str
    """Its id."""
    task: str
    """Its name; empty when it cannot be read."""
    queue: str
    """Its queue."""
    reason: str
    """Why it is a dead letter, in one word."""
    error: str
    """Its error, in one line."""
    at: datetime | None
    """When."""


class EarlierDecision(Answer):
    """The decision for the most workers of the last hour."""

    at: datetime
    """When it was made."""
    until: datetime | None
    """When another number was decided; null if it holds."""
    desired: int
    """Workers that there should have been."""
    reason: str
    """The decision in one word."""
    message: str
    """The decision in one line."""
    limited_by: str
    """What kept it from more or fewer; empty for nothing."""


class ScalerRow(Answer):
    """One autoscaler that has decided something in the last day."""

    name: str
    """`namespace/name`."""
    replicas: int
    """Workers that there are."""
    desired: int
    """Workers that there should be."""
    busy: int | None
    """Workers that run something."""
    reason: str
    """The decision in one word."""
    message: str
    """The decision in one line."""
    limited_by: str
    """What keeps it from more or fewer; empty for nothing."""
    at: datetime
    """When it was decided."""
    earlier: EarlierDecision | None
    """The most workers of the last hour, when they are more than now. Of the first eight autoscalers alone."""


class QueueRows(Answer):
    """A part of the queues."""

    items: list[QueueRow]
    """The rows."""
    total: int
    """How many match the search."""
    offset: int
    """The position of the first row."""


class OverviewAnswer(Answer):
    """The fleet at one moment."""

    at: datetime
    """When the figures were read. Those of other queues than the shown ones may be some seconds older."""
    unread: int
    """Queues whose figures were not read yet; the sums are without them."""
    totals: Totals
    """The sums."""
    workers: WorkerTotals
    """The workers."""
    queues: QueueRows
    """The queues."""
    failures: list[FailureRow]
    """The last ones, the latest first."""
    scalers: list[ScalerRow]
    """All of them, by name."""
