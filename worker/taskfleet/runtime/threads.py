"""Plain functions in threads that a timeout can interrupt."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

# How long an interrupted thread may take to notice: it does so between two bytecodes, not inside a C call.
_NOTICE_SECONDS = 5.0


class Interrupted(BaseException):
    """Raised inside a task's thread when its time is up or it is cancelled."""


class _Call:
    """One function call in a thread, which can be interrupted while it lasts and never after."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._thread: int | None = None
        self._stopped = False

    def run(self) -> Any:
        with self._lock:
            if self._stopped:
                raise Interrupted
            self._thread = threading.get_ident()
        try:
            return self._function()
        finally:
            # Under the lock, so that the exception cannot land in the pool's own code or in the next call.
            with self._lock:
                self._thread = None

    def interrupt(self) -> None:
        with self._lock:
            self._stopped = True
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Interrupted))


class Threads:
    """A pool with a thread per slot, made when first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run the function; cancelling this coroutine interrupts the thread and waits for it to end."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="taskfleet-task")
        context = contextvars.copy_context()
        call = _Call(lambda: context.run(function, *args, **kwargs))
        future = asyncio.get_running_loop().run_in_executor(self._pool, call.run)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            call.interrupt()
            future.add_done_callback(_retrieve)
            await asyncio.wait([future], timeout=_NOTICE_SECONDS)
            raise

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _retrieve(future: asyncio.Future[Any]) -> None:
    # What an interrupted thread ends with is of no interest, but must be looked at.
    if not future.cancelled():
        future.exception()
