"""Upcalls: the calls from lower parts of a worker to higher ones."""

from __future__ import annotations

from collections.abc import Callable

from taskfleet.runtime.state.job import Job


class Upcalls:
    """The only calls upwards between the parts of a worker, which otherwise know only the parts below them.

    The worker sets all three when it composes its parts.
    """

    __slots__ = ("given_up", "slot_free", "too_many_stuck")

    slot_free: Callable[[], None]
    """A claimed task or batch may be able to start."""

    given_up: Callable[[Job], None]
    """A handler ignores its cancellation: the end of its task is recorded without it."""

    too_many_stuck: Callable[[str], None]
    """Too many slots are lost to such handlers. The argument is the reason why the worker exits."""
