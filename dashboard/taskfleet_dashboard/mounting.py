"""The dashboard as an application that another one mounts."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI

from taskfleet.errors import ConfigurationError
from taskfleet.queue import TaskQueue
from taskfleet_dashboard.access.visitor import AccessCallable, CallableAccess, ReadOnly
from taskfleet_dashboard.app import application
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.serving import MOST_COMMANDS_PER_SECOND, Serving


def dashboard(
    queue: TaskQueue,
    *,
    access: AccessCallable,
    read_only: bool = False,
    mask: Iterable[str] = (),
    most_commands_per_second: float = MOST_COMMANDS_PER_SECOND,
) -> FastAPI:
    """The dashboard of a queue's Redis: `app.mount("/dashboard", dashboard(queue, access=who_may_look))`.

    Args:
        access: gets each request of the dashboard, a Starlette `Request`, and returns a `Visitor(user, may_change)`,
            `True` for somebody who may change everything, or `False` or `None` for somebody who may not even look. It
            may be a coroutine function. There is no default: who may look is for the application to say.
        read_only: nobody may change anything.
        mask: the names of fields whose values are not shown.
        most_commands_per_second: what pages that are open may cost Redis, however many they are.

    Errors: `ConfigurationError` for an argument that cannot be used.
    """
    # A caller without a type checker may pass any value.
    if not callable(access):  # pyright: ignore[reportUnnecessaryComparison]
        raise ConfigurationError("access= says who may look: a function of the request that returns a Visitor, or None")
    if not 10 <= most_commands_per_second <= 1_000_000:
        raise ConfigurationError(
            f"most_commands_per_second={most_commands_per_second!r:.40} is not valid; give 10 to 1,000,000"
        )
    method = CallableAccess(access)
    serving = Serving(
        queue,
        ReadOnly(method) if read_only else method,
        masks=Masks(mask),
        records=False,
        most_commands_per_second=most_commands_per_second,
    )
    # The application around it knows under which names it is served.
    return application(serving, hosts=None)
