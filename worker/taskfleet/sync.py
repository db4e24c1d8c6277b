"""Calls from code without an event loop.

One daemon thread a process runs a loop for all of them, so calls of several threads at once travel together, as calls
of one loop do. Each queue that is called so has a twin there, with connections of its own: those of the application's
own loop, if it has one, are left alone.

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
import weakref
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from taskfleet import showing
from taskfleet.ending import end
from taskfleet.errors import BrokerConnectionError, EventLoopRunningError

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue

R = TypeVar("R")

logger = showing.logger("taskfleet.sync")

# How long the end of Python waits for calls that daemon threads still have on their way.
_LAST_SENDS_SECONDS = 5.0
_ENDING = "Python is ending: the call was not made; make it before, or from a thread that Python waits for"


def run(
    queue: TaskQueue, call: Callable[[TaskQueue], Coroutine[Any, Any, R]], *, instead: str, sends: bool = False
) -> R:
    """Run `call(twin of queue)` in the background and return its result or raise its error.

    `instead` is what to write where a loop runs already; calls that `sends` something are given a moment to finish when
    Python ends. Errors: `EventLoopRunningError` inside a running loop, else those of the call.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise EventLoopRunningError(f"an event loop runs in this thread, which waiting would block: write {instead}")
    return _running().call(queue, call, sends)


async def disconnect(queue: TaskQueue) -> None:
    """Close the connections that the queue's calls without a loop have opened, if any."""
    background = _background
    if background is not None and (closing := background.discard(id(queue))) is not None:
        await asyncio.wrap_future(closing)


class _Background:
    """The thread, its loop, and the twins of the queues that are called through it."""

    def __init__(self) -> None:
        # Our own selector, so that a forked child can ask which sockets there are.
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._twins: dict[int, TaskQueue] = {}  # by id(): the background must not keep a queue alive
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

    def call(self, queue: TaskQueue, call: Callable[[TaskQueue], Coroutine[Any, Any, R]], sends: bool) -> R:
        if self._gone:
            raise BrokerConnectionError(_ENDING)
        coroutine = self._call(queue, call, sends)
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

    async def _call(self, queue: TaskQueue, call: Callable[[TaskQueue], Coroutine[Any, Any, R]], sends: bool) -> R:
        twin = self._twins.get(id(queue))
        if twin is None:
            twin = self._twins[id(queue)] = queue.twin()
            weakref.finalize(queue, self.discard, id(queue)).atexit = False
        if not sends:
            return await call(twin)
        task = asyncio.current_task()
        assert task is not None
        self._sends.add(task)
        try:
            return await call(twin)
        finally:
            self._sends.discard(task)

    def discard(self, key: int) -> concurrent.futures.Future[None] | None:
        """Forget a queue's twin and close its connections; safe from any thread."""
        twin = None if self._gone else self._twins.pop(key, None)
        if twin is None:
            return None
        closing = twin.disconnect()
        try:
            return asyncio.run_coroutine_threadsafe(closing, self._loop)
        except RuntimeError:  # the loop is closed, and with it all connections
            closing.close()
            return None

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
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for twin in self._twins.values():
            await twin.disconnect()
        await end(others)

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
