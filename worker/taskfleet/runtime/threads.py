"""Plain functions in threads that a timeout can interrupt.

There is a thread for every call at the time: one that cannot be interrupted, inside a C call, is in nobody's way. The
threads are daemons, so that such a one does not keep the interpreter from its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import ctypes
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any

from taskfleet import describing


class Interrupted(BaseException):
    """Raised inside a task's thread when its time is up or it is cancelled."""


class _Call:
    """One function call in a thread, which can be interrupted while it lasts and never after."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
        self._loop = loop
        self._function = function
        # Who holds it may send an interruption. The thread takes it at its end and keeps it. Reentrant, because the
        # interruption may strike between taking it and knowing that it is taken.
        self._gate = threading.RLock()
        self._thread: int | None = None
        self.interrupted = False
        self.ended: asyncio.Future[None] = loop.create_future()
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """On the thread: whatever the function does, this returns and the loop is told."""
        value: Any = None
        error: BaseException | None = None
        try:
            self._thread = threading.get_ident()
            if self.interrupted:
                raise Interrupted
            value = self._function()
        except BaseException as raised:
            error = raised
        self._shut_gate()
        self.value, self.error = value, error
        with contextlib.suppress(RuntimeError):  # the loop may be gone by now
            self._loop.call_soon_threadsafe(self.end)

    def _shut_gate(self) -> None:
        while True:
            try:
                self._gate.acquire()
                if self.interrupted and self._thread is not None:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            except Interrupted:
                continue
            return

    def interrupt(self) -> None:
        """On the loop: let the function meet `Interrupted` between two of its bytecodes."""
        if not self._gate.acquire(blocking=False):
            return  # it has ended
        try:
            self.interrupted = True
            if self._thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Interrupted))
        finally:
            self._gate.release()

    def end(self) -> None:
        """On the loop: whoever waits for the call waits no longer."""
        if not self.ended.done():
            self.ended.set_result(None)


class Threads:
    """Threads for the calls of one worker: as many as there are calls at once, kept for the next."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads that no call is meant for
        self._numbers = itertools.count(1)
        self._waited_for: set[_Call] = set()
        self._closed = False

    async def call(self, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run the function. Cancelling this coroutine interrupts the thread, and waits until it has ended."""
        context = contextvars.copy_context()
        call = _Call(asyncio.get_running_loop(), lambda: context.run(function, *args, **kwargs))
        self._waited_for.add(call)
        try:
            self._give(call)
            await _ended(call)
        finally:
            self._waited_for.discard(call)
        if call.error is None:
            return call.value
        error, call.error = call.error, None  # its traceback holds this frame, which holds the call
        if issubclass(type(error), (StopIteration, StopAsyncIteration)):
            # No coroutine can raise it: the interpreter would say of this one what is true of the function.
            raise RuntimeError(f"the function raised {describing.name_of(type(error))}") from error
        try:
            raise error
        finally:
            del error

    def _give(self, call: _Call) -> None:
        with self._lock:
            idle, self._idle = self._idle, max(0, self._idle - 1)
        if not idle:
            name = f"taskfleet-task-{next(self._numbers)}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._calls.put(call)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            if call.interrupted:
                return  # should an interruption still be under way, it strikes nobody
            forget_loop()
            del call  # and with it what the function was given, until the next one comes
            with self._lock:
                if self._closed:
                    return
                self._idle += 1

    def close(self) -> None:
        """Let idle threads end, and wait no longer for those that do not."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._calls.put(None)
        for call in list(self._waited_for):
            call.interrupt()
            call.error = asyncio.CancelledError()
            call.end()


def forget_loop() -> None:
    """Leave the next call on this thread no event loop that the last one has set: neither `None`, nor its own."""
    # asyncio keeps it in what no function of its own can make as new: a loop that is set to `None` is not one unset.
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    if (local := getattr(policy, "_local", None)) is not None:
        vars(local).clear()


async def _ended(call: _Call) -> None:
    try:
        await asyncio.shield(call.ended)
    except asyncio.CancelledError:
        while not call.ended.done():
            call.interrupt()
            # Asked again meanwhile, it is interrupted again: the function may have swallowed the first one.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([call.ended])
        call.error = None
        raise
