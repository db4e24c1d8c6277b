"""Requests that a process should end: signals and messages of the parent are counted as one request."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from types import FrameType
from typing import Any

_ONE_REQUEST_SECONDS = 1.0


def signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a process to end. SIGHUP is not among them under `nohup`."""
    found = (signal.SIGTERM, signal.SIGINT)
    return found if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*found, signal.SIGHUP)


class Requests:
    """Calls `end` for the first request, from any source, and `hurry` for the second.

    The same signal a second time is a second request. A different signal within a second of the first is not: a
    terminal sends SIGINT to all of its processes, and a parent that has received it sends SIGTERM to its children.
    """

    def __init__(self, end: Callable[[], object], hurry: Callable[[], object]) -> None:
        self._end = end
        self._hurry = hurry
        self._asked = False
        self._first: tuple[int, float] | None = None

    def heard(self, number: int) -> None:
        """A signal has arrived."""
        now = time.monotonic()
        if self._first is None:
            self._first = (number, now)
            self.told()
        elif number == self._first[0] or now - self._first[1] > _ONE_REQUEST_SECONDS:
            self._hurry()

    def told(self) -> None:
        """The parent asks this process to end. The parent has counted its signals by the same rule."""
        if not self._asked:
            self._asked = True
            self._end()


def end_at_once() -> dict[signal.Signals, Any]:
    """End this process at once when it is asked to end, before it has work to hand back. Returns the former handlers.

    The kernel would ignore these signals for the first process of a container. Code of the application, which is being
    imported, may catch the exceptions that Python raises for a signal.
    """
    return {number: signal.signal(number, _leave) for number in signals()}


@contextlib.contextmanager
def ending_at_once() -> Generator[None]:
    """`end_at_once` for the duration of a block. It has no effect outside the main thread, which gets all signals."""
    before = end_at_once() if threading.current_thread() is threading.main_thread() else {}
    try:
        yield
    finally:
        restore(before)


@contextlib.contextmanager
def ending_the_first_process() -> Generator[None]:
    """For a block, let signals end the first process of a container, as they end any other process.

    The kernel drops signals that such a process has no handler for. Handlers of the application stay, as does Ctrl-C.
    """
    first = os.getpid() == 1 and threading.current_thread() is threading.main_thread()
    unheard = [number for number in signals() if signal.getsignal(number) is signal.SIG_DFL] if first else []
    for number in unheard:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        restore(dict.fromkeys(unheard, signal.SIG_DFL))


def restore(before: Mapping[signal.Signals, Any]) -> None:
    """Install the former signal handlers."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
