"""The base of all answers. What is not known is null, never 0. Times are UTC in ISO 8601, durations seconds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """The base of all answers."""

    model_config = ConfigDict(
        use_attribute_docstrings=True,
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="null",
        populate_by_name=True,
        # A field with a default is always sent, so it is required for who reads it.
        json_schema_serialization_defaults_required=True,
    )


class Order(BaseModel):
    """The base of what a request carries. A field that no route knows is an error, since it would have no effect."""

    model_config = ConfigDict(use_attribute_docstrings=True, frozen=True, extra="forbid", populate_by_name=True)


class ErrorAnswer(Answer):
    """Every answer that is no success."""

    error: str
    """What is wrong and what to do, in one line."""
    login: str | None = None
    """With status 401, how to log in: `token`, or null where the dashboard cannot ask for anything."""


class DoneAnswer(Answer):
    """A change that was made at once."""

    changed: bool
    """Whether it changed anything."""
    count: int | None = None
    """How many tasks it was about, where it was about several."""
    detail: str = ""
    """What came of it, in one line: the id of a new task, or why nothing changed."""
