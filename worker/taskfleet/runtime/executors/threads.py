"""Plain functions in threads that a timeout can interrupt.

Each concurrent call has a thread, so that a call which cannot be interrupted inside C code delays no other call. The
threads are daemons, so that such a call does not keep the interpreter from exiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any

from taskfleet import describing


class Interrupted(BaseException):
    """Raised in a task's thread when its time is up or the task is cancelled."""


class _Call:
    """One function call in a thread, which can be interrupted while it runs and not afterwards."""

    def __init__(self, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
        self._loop = loop
        self._function = function
        # The holder of the gate may send an interruption. The thread takes the gate at its end and keeps it. The gate
        # is reentrant, because the interruption may arrive between taking it and knowing that it is taken.
        self._gate = threading.RLock()
        self._thread: int | None = None
        self.interrupted = False
        self.ended: asyncio.Future[None] = loop.create_future()
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """On the thread: run the function. It always returns, and tells the loop, whatever the function raises."""
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
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            self._loop.call_soon_threadsafe(self.end)

    def _shut_gate(self) -> None:
        while True:
            try:
                self._gate.acquire()
                if self.interrupted and self._thread is not None:
                    _set_raised_in(self._thread, None)
            except Interrupted:
                continue
            return

    def interrupt(self) -> None:
        """On the loop: raise `Interrupted` in the function between two of its bytecodes."""
        if not self._gate.acquire(blocking=False):
            return  # the call has ended
        try:
            self.interrupted = True
            if self._thread is not None:
                _set_raised_in(self._thread, Interrupted)
        finally:
            self._gate.release()

    def end(self) -> None:
        """On the loop: wake the caller that waits for the call."""
        if not self.ended.done():
            self.ended.set_result(None)


def _set_raised_in(thread: int, exception: type[BaseException] | None) -> None:
    """Have the interpreter raise `exception` in another thread; `None` takes back one that was not raised yet."""
    import ctypes  # only here: it takes 0.4 MB of memory, and few calls are interrupted

    raised = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


class Threads:
    """The threads for the calls of one worker: one for each concurrent call, kept for later calls."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0  # threads without an assigned call
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
            # A coroutine cannot raise StopIteration: the interpreter would blame this coroutine for the error of the
            # function.
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
                return  # an interruption that arrives after this has no effect
            forget_loop()
            del call  # and its arguments, which would otherwise live until the next call
            with self._lock:
                if self._closed:
                    return
                self._idle += 1

    def close(self) -> None:
        """Let idle threads end. Busy threads are not awaited."""
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
    """Remove the event loop that the last call has set on this thread, so that the next call finds none."""
    # asyncio has no function that restores the initial state: a loop that is set to `None` differs from an unset one.
    policy = getattr(asyncio.events, "_event_loop_policy", None)
    if (local := getattr(policy, "_local", None)) is not None:
        vars(local).clear()


async def _ended(call: _Call) -> None:
    try:
        await asyncio.shield(call.ended)
    except asyncio.CancelledError:
        while not call.ended.done():
            call.interrupt()
            # After another cancellation the call is interrupted again, since the function may have swallowed the first.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([call.ended])
        call.error = None
        raise
