"""Who looks, and what they may do."""

from __future__ import annotations

from pydantic import Field

from taskfleet_dashboard.answers.answer import Answer, Order


class SessionAnswer(Answer):
    """The session of one browser."""

    user: str
    """Who it is, as the access method tells. Empty where nobody has to say."""
    may_change: bool
    """Whether this user may change anything. A change is refused otherwise, whatever the page shows."""
    csrf: str
    """To be sent as `X-CSRF-Token` with every POST."""
    version: str
    """Of Taskfleet."""
    redis: str
    """The address of Redis, without a login."""
    masked_fields: list[str]
    """The names of the fields whose values are not shown, wherever they occur in a payload."""
    base: str
    """The path under which the dashboard is mounted, without a slash at its end; empty at the root."""
    login: str | None
    """`token` when this session can be ended by `POST /api/logout`."""


class LoginOrder(Order):
    """A login."""

    token: str = Field(max_length=4096)
    """The token."""
