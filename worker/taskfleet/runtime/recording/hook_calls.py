"""Calls of the `on_retry` and `on_dead` hooks of the middleware."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine
from typing import Any

from taskfleet import background, context
from taskfleet.context import TaskContext
from taskfleet.middleware import Stack
from taskfleet.protocol import call_settings
from taskfleet.protocol.envelope import Envelope
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.state.job import Job
from taskfleet.runtime.state.run_context import RunContext

_TELL_SECONDS = 5.0  # how long hooks that are still running may take when the worker ends


class HookCalls:
    """Runs hooks beside the tasks: a hook that hangs holds up neither a slot nor an outcome."""

    def __init__(self, hooks: Stack, context: RunContext) -> None:
        self._hooks = hooks
        self._context = context
        self._calls: set[asyncio.Task[None]] = set()

    def retried(self, job: Job, reason: str, message: str, delay: float) -> None:
        """A run has failed, and the task runs again in `delay` seconds."""
        if self._hooks.on_retry:
            self._call(job.context, lambda about: self._hooks.tell_retry(about, reason, message, delay))

    def failed(self, job: Job, reason: str, message: str) -> None:
        """A run has failed for good."""
        if self._hooks.on_dead:
            self._call(job.context, lambda about: self._hooks.tell_dead(about, reason, message))

    def buried(
        self,
        partition: Partition,
        task_id: str,
        delivery: int,
        attempt: int,
        task: Envelope | None,
        reason: str,
        message: str,
    ) -> None:
        """Call the hooks for a task that could not be run; without `task`, its payload could not be read."""
        if not self._hooks.on_dead:
            return
        # A task that cannot be read has no name, and was enqueued at an unknown time.
        name, headers, enqueued_ms = (
            (task.name, task.settings.get(call_settings.HEADERS), task.enqueued_ms) if task else ("?", None, 0.0)
        )
        enqueued = dt.datetime.fromtimestamp(enqueued_ms / 1000, dt.UTC)
        lost = TaskContext(task_id, name, partition, attempt, delivery, enqueued, None, headers or {})
        self._call(lambda: lost, lambda about: self._hooks.tell_dead(about, reason, message))

    def _call(
        self, make_context: Callable[[], TaskContext], hook: Callable[[TaskContext], Coroutine[Any, Any, None]]
    ) -> None:
        variables = self._context.variables.copy()
        variables.run(context.CURRENT.set, make_context)
        call = background.start(hook(make_context()), context=variables)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        """Give running hooks some time to end."""
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=_TELL_SECONDS)
            for call in late:
                call.cancel()
