"""Runs plain functions of tasks in the thread that has enqueued them, which waits.

Code without an event loop, such as a view of Django and its test, keeps its transaction and other state by thread. A
thread that calls `enqueue_sync` in eager mode waits for the task, and meanwhile runs the functions of the tasks that it
has caused. Thus they see what the caller sees, and may enqueue further tasks in the same way.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

from taskfleet.context import CURRENT
from taskfleet.runtime.executors.threads import Threads
from taskfleet.sync import Wait


class CallingThread:
    """A thread that waits for the end of a call, and runs functions until then."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = True

    def give(self, call: Callable[[], None]) -> bool:
        """Let the thread run a call; false when it no longer waits."""
        with self._lock:
            if self._open:
                self._calls.put(call)
            return self._open

    def wait_for(self, future: concurrent.futures.Future[Any]) -> None:
        """On the thread: run calls until the future is done."""
        future.add_done_callback(lambda _: self._calls.put(None))
        while (call := self._calls.get()) is not None:
            call()
        with self._lock:
            self._open = False
        while not self._calls.empty():
            if (late := self._calls.get()) is not None:
                late()


CALLER: contextvars.ContextVar[CallingThread | None] = contextvars.ContextVar("taskfleet_calling_thread", default=None)


class Callers:
    """The thread that waits for each task, by task id."""

    def __init__(self) -> None:
        self._of: dict[str, CallingThread] = {}

    def note(self, task_id: str, parent: str | None) -> None:
        """The running code has enqueued a task, inside the task `parent`."""
        caller = CALLER.get() or (self._of.get(parent) if parent is not None else None)
        if caller is not None:
            self._of[task_id] = caller

    def of_current_task(self) -> CallingThread | None:
        make = CURRENT.get()
        return self._of.get(make().id) if make is not None else None

    def wait(self, usual: Wait, submit: Callable[[], concurrent.futures.Future[Any]]) -> Any:
        """In place of waiting idly for the end of a call (`sync.waiting_with`)."""
        caller = CallingThread()
        before = CALLER.set(caller)
        try:
            future = submit()
        finally:
            CALLER.reset(before)
        try:
            caller.wait_for(future)
        except BaseException:
            future.cancel()  # Ctrl-C, most likely
            raise
        return usual(lambda: future)


class CallingThreads(Threads):
    """Threads for the functions of tasks that no thread waits for; the others run in the thread that waits."""

    callers: Callers

    def _give(self, call: Any) -> None:
        caller = self.callers.of_current_task()
        if caller is None or not caller.give(call.run):
            super()._give(call)
