"""Calls from code without an event loop.

One daemon thread in each process runs an event loop for all such calls, so that simultaneous calls of several threads
share round trips, as calls of one loop do. Each queue has a session in that loop, as in any other loop
(`taskfleet.session`).

After a fork the child has the sockets of its parent, but not the thread. It closes the sockets without reading them,
and starts another thread at its next call.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import selectors
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar, cast

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import BrokerConnectionError, EventLoopRunningError
from taskfleet.keeping import never_finalise

R = TypeVar("R")

logger = showing.logger("taskfleet.sync")

_LAST_SENDS_SECONDS = 5.0  # how long the interpreter's exit waits for calls of daemon threads
_ENDING = "Python is ending: the call was not made; make it before, or from a thread that Python waits for"


def run(call: Callable[[], Coroutine[Any, Any, R]], *, instead: str, sends: bool = False) -> R:
    """Run `call()` in the background and return its result or raise its error.

    `instead` is the form to await, for the error inside a running loop. Calls that send tasks (`sends`) get a moment to
    finish when Python ends. Errors: `EventLoopRunningError` inside a running loop, else those of the call.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise EventLoopRunningError(f"an event loop runs in this thread, which waiting would block: write {instead}")
    loop_thread = _running()
    return cast("R", _wait(lambda: loop_thread.submit(call, sends)))


def _result(submit: Callable[[], concurrent.futures.Future[R]]) -> R:
    future = submit()
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise BrokerConnectionError(_ENDING) from None
    except BaseException:
        # Ctrl-C, most likely: the caller no longer waits for the result.
        future.cancel()
        raise


Wait = Callable[[Callable[[], "concurrent.futures.Future[Any]"]], Any]
_wait: Wait = _result


@contextlib.contextmanager
def waiting_with(wait: Callable[[Wait, Callable[[], concurrent.futures.Future[Any]]], Any]) -> Generator[None]:
    """For tests: inside the block a thread that makes such a call waits in `wait(usual way to wait, submit)`."""
    global _wait
    before = _wait
    _wait = lambda submit: wait(before, submit)  # noqa: E731
    try:
        yield
    finally:
        _wait = before


class _LoopThread:
    """The daemon thread and its event loop."""

    def __init__(self) -> None:
        # Made here, so that a forked child can list the sockets of the loop.
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._sends: set[asyncio.Task[Any]] = set()
        self._gone = False
        self._thread = threading.Thread(target=self._run, name="taskfleet-sync", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            self._loop.close()
            raise BrokerConnectionError(f"{_ENDING} ({error})") from None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def submit(self, call: Callable[[], Coroutine[Any, Any, R]], sends: bool) -> concurrent.futures.Future[R]:
        if self._gone:
            raise BrokerConnectionError(_ENDING)
        coroutine = self._call(call, sends)
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            raise BrokerConnectionError(_ENDING) from None

    async def _call(self, call: Callable[[], Coroutine[Any, Any, R]], sends: bool) -> R:
        if not sends:
            return await call()
        task = asyncio.current_task()
        assert task is not None
        self._sends.add(task)
        try:
            return await call()
        finally:
            self._sends.discard(task)

    def end(self) -> None:
        """Let calls that send tasks finish, close all connections, end the thread."""
        if self._gone:
            return
        self._gone = True
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        with contextlib.suppress(TimeoutError):
            ending.result(2 * _LAST_SENDS_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_LAST_SENDS_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        if self._sends:
            _, late = await asyncio.wait(set(self._sends), timeout=_LAST_SENDS_SECONDS)
            if late:
                logger.warning("Python ends while %d calls of daemon threads still wait for Redis", len(late))
        await end(asyncio.all_tasks() - {asyncio.current_task()})
        await self._loop.shutdown_asyncgens()  # closes all connections: each session has one

    def abandon(self) -> None:
        """In a forked child: close the inherited sockets, and never touch the objects that used them."""
        self._gone = True
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError):
                os.close(key.fd)
        # The transports still hold the numbers of their sockets, which new files of the child now get, and the loop
        # holds the epoll of the parent. None of these objects may ever be finalised, not even at exit.
        never_finalise(self)


_lock = threading.Lock()
_loop_thread: _LoopThread | None = None


def _running() -> _LoopThread:
    global _loop_thread
    if _loop_thread is None:
        with _lock:
            if _loop_thread is None:
                _loop_thread = _LoopThread()
    return _loop_thread


def _after_fork() -> None:
    global _loop_thread, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    abandoned, _loop_thread = _loop_thread, None
    if abandoned is not None:
        abandoned.abandon()


def _at_exit() -> None:
    # Runs after the exit handlers of the application, which were registered later and may still make calls.
    if _loop_thread is not None:
        _loop_thread.end()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
