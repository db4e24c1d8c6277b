"""What lower parts of a worker tell higher ones."""

from __future__ import annotations

from collections.abc import Callable

from taskfleet.runtime.job import Job


class Events:
    """The one way up between the parts of a worker, which otherwise only know parts below them.

    The worker sets all three when it composes its parts.
    """

    __slots__ = ("given_up", "slot_free", "too_many_stuck")

    slot_free: Callable[[], None]
    """A task or a batch that has been claimed may be able to start."""

    given_up: Callable[[Job], None]
    """A handler ignores its cancellation: the end of its task is to be recorded without it."""

    too_many_stuck: Callable[[str], None]
    """Too many slots are lost to such handlers, and why the worker is to leave."""
