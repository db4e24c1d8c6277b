"""The embedded queue, which runs workers, scheduler and autoscaler in one process. `TaskQueueBuilder` makes it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Self

from taskfleet import showing
from taskfleet.queue import TaskQueue

if TYPE_CHECKING:
    from taskfleet.embedded.autoscaling import Autoscaler

logger = showing.logger("taskfleet.process")


class EmbeddedQueue(TaskQueue):
    """A `TaskQueue` with parts to start.

    `app.run_forever()` runs them until SIGTERM or Ctrl-C has drained the workers. `await app.run()` does so in a
    running event loop. `async with app:` runs them beside other code. After its end it can be run again.
    """

    def __init__(self, *, scheduler: bool, autoscaler: bool, **options: Any) -> None:
        super().__init__(**options)
        self._with_scheduler = scheduler
        self._with_autoscaler = autoscaler
        self._autoscaler: Autoscaler | None = None
        self._stopping: asyncio.Event | None = None
        self._failure: BaseException | None = None

    async def start(self) -> None:
        """Start the parts that are not running."""
        from taskfleet.embedded.autoscaling import Autoscaler

        if self._stopping is not None:
            return
        self._stopping, self._failure = asyncio.Event(), None
        try:
            workers = self.local_workers()
            workers.on_failure = self._failed
            await self.start_workers()
            if self._with_scheduler:
                await self.start_scheduler()
            if self._with_autoscaler:
                self._autoscaler = Autoscaler(self.application, self.sessions, workers, self.settings.autoscaler)
        except BaseException:
            await self.close()
            raise

    @property
    def autoscaler(self) -> Autoscaler | None:
        """The autoscaler, while it runs."""
        return self._autoscaler

    def _failed(self, error: BaseException) -> None:
        # A process with too few workers would look healthy and do less, so it ends, and its supervisor starts another.
        self._failure = self._failure or error
        self.stop()

    def stop(self) -> None:
        """Let `run()` drain the workers and return."""
        if self._stopping is not None:
            self._stopping.set()

    async def close(self) -> None:
        """Stop the parts: the workers drain last. Then close the connections."""
        autoscaler, self._autoscaler = self._autoscaler, None
        if autoscaler is not None:
            await autoscaler.stop()
        await super().close()
        self._stopping = None

    async def run(self) -> None:
        """Run until `stop()`, SIGTERM or SIGINT; a second signal ends the process at once, without a loss of tasks.

        Signals are handled when this runs in the main thread. Errors: the error of a worker that has failed.
        """
        from taskfleet.process import requests
        from taskfleet.process.worker_process import settle_memory

        loop = asyncio.get_running_loop()
        in_main_thread = threading.current_thread() is threading.main_thread()
        before = {number: signal.getsignal(number) for number in requests.signals()} if in_main_thread else {}
        asked = requests.Requests(self._asked_to_end, _end_at_once)
        # Handled before the first worker runs: a signal that comes while the parts start must drain them too.
        for number in before:
            loop.add_signal_handler(number, asked.heard, number)
        try:
            await self.start()
            assert self._stopping is not None
            settle_memory()
            await self._stopping.wait()
        finally:
            try:
                await self.close()
            finally:
                for number in before:
                    loop.remove_signal_handler(number)
                requests.restore(before)
        if self._failure is not None:
            raise self._failure

    def _asked_to_end(self) -> None:
        assert self._stopping is not None
        self._stopping.set()

    def run_forever(self) -> None:
        """`run()` for a program without an event loop.

        If the program has not set up logging, the command's setup is used.
        """
        from taskfleet import logs
        from taskfleet.process import event_loop

        if not logging.getLogger().handlers:
            logs.configure()

        event_loop.run(self.run())

    async def __aenter__(self) -> Self:
        await self.start()
        return self


def _end_at_once() -> None:
    # The leases of running tasks expire, and another worker takes these tasks over. No task is lost.
    logger.warning("second signal: ending at once")
    os._exit(1)
