"""Dead letters, and the jobs that requeue or discard many of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from taskfleet_dashboard.answers.answer import Answer, Order
from taskfleet_dashboard.answers.tasks import TaskAnswer

MOST_IDS = 1000

ShortText = Annotated[str, Field(max_length=1000)]


class DeadRow(Answer):
    """One dead letter."""

    id: str
    """Its id."""
    task: str | None
    """Its name; null when it cannot be read."""
    queue: str
    """Its queue."""
    reason: str
    """Why, in one word."""
    error: str
    """Its error, in one line."""
    attempts: int
    """Its attempts."""
    deliveries: int
    """Its claims."""
    enqueued_at: datetime | None
    """When it was sent."""
    died_at: datetime | None
    """When it became a dead letter."""


class DeadPageAnswer(Answer):
    """Some dead letters, of each queue the latest first."""

    items: list[DeadRow]
    """The letters."""
    cursor: str | None
    """Where the next page goes on; null after the last."""
    examined: int
    """Letters that this call has looked at."""
    problems: list[str] = Field(default_factory=list[str])
    """What cannot be read and is missing in `items`, in one line each."""


class DeadAnswer(TaskAnswer):
    """One dead letter in full."""

    attempts: int
    """Its attempts."""
    died_at: datetime | None
    """When it became a dead letter."""


class DeadMatch(Order):
    """Which dead letters: those to which everything applies that is given."""

    queue: ShortText | None = None
    """Of this queue."""
    task: ShortText | None = None
    """Of this name."""
    reason: ShortText | None = None
    """With this reason."""
    q: ShortText | None = None
    """With this text in the name, arguments or errors, whatever the case, or at the start of the id."""
    since: datetime | None = None
    """That died then or later."""
    until: datetime | None = None
    """That died before."""


class DeadOrder(Order):
    """Which dead letters to requeue or discard: those of `ids` in `queue`, or all that match now."""

    queue: ShortText | None = None
    """The queue of the ids."""
    ids: list[ShortText] | None = Field(default=None, max_length=MOST_IDS)
    """Ids of dead letters."""
    match: DeadMatch | None = None
    """In place of ids. An empty one is all of them."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.ids is None) == (self.match is None):
            raise ValueError("give either ids with their queue, or match")
        if self.ids is not None and not self.queue:
            raise ValueError("ids need their queue")
        return self


class JobStarted(Answer):
    """A job has begun."""

    job: str
    """Its id, for `GET /api/jobs/{job}`."""


class JobAnswer(Answer):
    """A job, as it is now."""

    job: str
    """Its id."""
    action: Literal["requeue", "discard"]
    """What it does."""
    state: Literal["running", "done", "failed", "undone"]
    """failed: it has stopped, and `error` says why; what is done stays done."""
    done: int
    """Dead letters that it has requeued or discarded."""
    stayed: int
    """Dead letters that matched and stay: cancelled, damaged, or another task has their unique key."""
    total: int | None
    """How many there are to look at; null while nobody knows."""
    examined: int
    """How many it has looked at."""
    error: str | None
    """Why it stopped."""
    undo_until: datetime | None
    """Until when a discard can be undone; null when it cannot."""
    undoable: int
    """How many letters an undo brings back. A discard holds a bounded number and size of them."""
    user: str
    """Who has started it."""
    started_at: datetime
    """When."""
