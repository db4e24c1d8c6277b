"""The event loop of a worker's process, which no task can end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from taskfleet import showing
from taskfleet.background import BackgroundTask
from taskfleet.context import caller

logger = showing.logger("taskfleet.worker")

R = TypeVar("R")


def run(main: Coroutine[Any, Any, R]) -> R:
    """Run `main` to its end, on uvloop if it is installed, and return its result.

    `asyncio.run` ends at the first `sys.exit()` or KeyboardInterrupt in any callback or task of the loop, such as one
    that a handler has left behind, and cancels everything else. This function logs it and goes on. A task that awaits
    the ended one gets its exception in both cases.
    """
    with asyncio.Runner(loop_factory=_guarded(loop_class())) as runner:
        loop = runner.get_loop()
        work = BackgroundTask(main, loop=loop)
        while True:
            try:
                return loop.run_until_complete(work)
            except (SystemExit, KeyboardInterrupt) as error:
                if work.done() or _is_ctrl_c(error):
                    raise
                logger.exception(
                    "%r in a callback or task that a task has started would have ended the event loop, which goes on",
                    error,
                )
            except RuntimeError:
                if work.done() or loop.is_closed():
                    raise
                logger.error("a task has called stop() on the event loop, which goes on")


def _is_ctrl_c(error: BaseException) -> bool:
    # The worker handles SIGINT in the loop. Python's default handler is active only before that, or after a restore.
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def loop_class() -> type[Any]:
    """The class of the loop: that of uvloop, if it is installed."""
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: the standard loop is correct, but slower
        return asyncio.SelectorEventLoop
    return cast("type[Any]", uvloop.Loop)


def _guarded(loop: type[Any]) -> type[Any]:
    """A loop class whose settings a task cannot change, since they hold for all tasks of the loop."""

    class WorkerLoop(loop):  # type: ignore[misc]
        def set_task_factory(self, factory: Any) -> None:
            _refuse_tasks("set_task_factory")
            super().set_task_factory(factory)

        async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
            _refuse_tasks("shutdown_default_executor")
            await super().shutdown_default_executor(*args, **kwargs)

    return WorkerLoop


def _refuse_tasks(method: str) -> None:
    if caller() is not None:
        raise RuntimeError(
            f"{method}() changes the event loop for all tasks: call it in the application, not in a task"
        )
