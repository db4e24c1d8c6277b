"""Calls from code without an event loop.

One daemon thread a process runs a loop for all of them, so calls of several threads at once travel together, as calls
of one loop do. Each queue that is called so has a session there (`taskfleet.session`), as in any other loop.

A fork leaves the child without that thread and with its parent's sockets. The child closes them unread and starts a
thread of its own at its next call.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import ctypes
import os
import selectors
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import BrokerConnectionError, EventLoopRunningError

R = TypeVar("R")

logger = showing.logger("taskfleet.sync")

# How long the end of Python waits for calls that daemon threads still have on their way.
_LAST_SENDS_SECONDS = 5.0
_ENDING = "Python is ending: the call was not made; make it before, or from a thread that Python waits for"


def run(call: Callable[[], Coroutine[Any, Any, R]], *, instead: str, sends: bool = False) -> R:
    """Run `call()` in the background and return its result or raise its error.

    `instead` is what to write where a loop runs already; calls that `sends` something are given a moment to finish when
    Python ends. Errors: `EventLoopRunningError` inside a running loop, else those of the call.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise EventLoopRunningError(f"an event loop runs in this thread, which waiting would block: write {instead}")
    return _running().call(call, sends)


class _Background:
    """The thread and its loop."""

    def __init__(self) -> None:
        # Our own selector, so that a forked child can ask which sockets there are.
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

    def call(self, call: Callable[[], Coroutine[Any, Any, R]], sends: bool) -> R:
        if self._gone:
            raise BrokerConnectionError(_ENDING)
        coroutine = self._call(call, sends)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # the loop is closed
            coroutine.close()
            raise BrokerConnectionError(_ENDING) from None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise BrokerConnectionError(_ENDING) from None
        except BaseException:
            # Ctrl-C, most likely: nobody waits for the answer any more.
            future.cancel()
            raise

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
        """Let what is being sent arrive, close all connections, end the thread."""
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
        """In a forked child: close the parent's sockets here, and never touch what used them."""
        self._gone = True
        for key in list(self._selector.get_map().values()):
            with contextlib.suppress(OSError):
                os.close(key.fd)
        # Its transports believe in their sockets, whose numbers others get now, and its loop in an epoll that is still
        # the parent's: nothing of it may ever be finalised, at the end of the interpreter neither.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))


_lock = threading.Lock()
_background: _Background | None = None


def _running() -> _Background:
    global _background
    if _background is None:
        with _lock:
            if _background is None:
                _background = _Background()
    return _background


def _after_fork() -> None:
    global _background, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    abandoned, _background = _background, None
    if abandoned is not None:
        abandoned.abandon()


def _at_exit() -> None:
    # What ends after us, as we were registered when taskfleet was imported: nothing that uses it.
    if _background is not None:
        _background.end()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
