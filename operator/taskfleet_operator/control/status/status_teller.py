"""Tells the status of one TaskQueue in the background, so that no decision waits for the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...scaling.clock import ScalingClock
from ..store.cluster_store import Key
from .conditions import Condition
from .status_writer import StatusWriter

FIGURES_SECONDS = 75.0
"""Between two writes of figures alone: under one a minute, however busy the queues are."""
_RETRY_SECONDS = 5.0

_News = tuple[Mapping[str, Any], Sequence[Condition]]


class StatusTeller:
    """Writes the last of what it was told, one write at a time. Figures alone are written once in `FIGURES_SECONDS`.

    `failed` hears of a write that was refused; it is tried again.
    """

    def __init__(
        self,
        key: Key,
        uid: str | None,
        status: StatusWriter,
        clock: ScalingClock,
        failed: Callable[[Exception], None],
    ) -> None:
        self._key = key
        self._uid = uid
        self._status = status
        self._clock = clock
        self._failed = failed
        self._news: _News | None = None
        self._figures_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def tell(self, fields: Mapping[str, Any], conditions: Sequence[Condition]) -> None:
        self._news = (fields, conditions)
        self._start()

    async def settled(self) -> None:
        """Wait until the write that is on its way has ended."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def close(self) -> asyncio.Task[None] | None:
        """Tell nothing any more. Returns the write that is on its way, for its end."""
        self._closed, self._news = True, None
        if self._timer is not None:
            self._timer.cancel()
        return self._task

    def _start(self) -> None:
        if self._closed or (self._task is not None and not self._task.done()):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._task = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while (news := self._news) is not None:
            self._news = None
            fields, conditions = news
            wait = self._figures_at + FIGURES_SECONDS - self._clock.now()
            try:
                wrote = await self._status.write(self._key, fields, conditions, uid=self._uid, patient=wait > 0)
            except Exception as error:
                self._failed(error)
                self._later(_RETRY_SECONDS, news)
                return
            if wrote and wait <= 0:
                self._figures_at = self._clock.now()
            elif wrote is None:
                self._later(wait, news)

    def _later(self, seconds: float, news: _News) -> None:
        """Tell it again later, unless there is something newer by then."""
        if self._closed or self._timer is not None:
            return

        def again() -> None:
            self._timer = None
            self._news = self._news or news
            self._start()

        self._timer = asyncio.get_running_loop().call_later(max(0.1, seconds), again)
