"""How slots that have become free get their next tasks."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any
from unittest.mock import MagicMock

from taskfleet.runtime.claiming.dispatcher import Dispatcher
from taskfleet.runtime.state.run_context import RunContext

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Watched(Dispatcher):
    """Notes in which context it looks for tasks."""

    def __init__(self, context: RunContext, prefetch: Any) -> None:
        super().__init__(
            context, MagicMock(), MagicMock(), MagicMock(), prefetch, MagicMock(), MagicMock(), MagicMock(), MagicMock()
        )
        self.looks: list[str] = []

    def start(self) -> None:
        self.looks.append(WHO.get())


async def test_slots_that_become_free_in_one_round_share_one_look_in_the_context_of_the_application() -> None:
    WHO.set("the application")
    context, prefetch = RunContext(), MagicMock(starting=False)
    context.loop = asyncio.get_running_loop()
    context.take_variables()
    dispatcher = Watched(context, prefetch)
    for task in ("one", "two", "three"):
        WHO.set(task)
        dispatcher.start_soon()
    assert dispatcher.looks == []
    await asyncio.sleep(0)
    assert dispatcher.looks == ["the application"]
    dispatcher.start_soon()
    await asyncio.sleep(0)
    assert dispatcher.looks == ["the application"] * 2
    prefetch.starting = True  # the look that is under way finds this slot too
    dispatcher.start_soon()
    await asyncio.sleep(0)
    assert dispatcher.looks == ["the application"] * 2
