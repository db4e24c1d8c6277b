"""A process that is asked to end: one request is one, however it arrives and by how many ways."""

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
    """Those that ask a process to end. A terminal that closes does not, where `nohup` has said so."""
    found = (signal.SIGTERM, signal.SIGINT)
    return found if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*found, signal.SIGHUP)


class Requests:
    """Calls `end` for the first request, whoever makes it, and `hurry` for the second.

    The same signal a second time is a second request. Another signal within a second of the first is not: a terminal
    sends SIGINT to all of its processes, and the parent of some sends them SIGTERM when it has got its own.
    """

    def __init__(self, end: Callable[[], object], hurry: Callable[[], object]) -> None:
        self._end = end
        self._hurry = hurry
        self._asked = False
        self._first: tuple[int, float] | None = None

    def heard(self, number: int) -> None:
        """A signal has come."""
        now = time.monotonic()
        if self._first is None:
            self._first = (number, now)
            self.told()
        elif number == self._first[0] or now - self._first[1] > _ONE_REQUEST_SECONDS:
            self._hurry()

    def told(self) -> None:
        """Our parent asks us; it has counted the signals that it has got, as we count ours."""
        if not self._asked:
            self._asked = True
            self._end()


def end_at_once() -> dict[signal.Signals, Any]:
    """Have this process end at once when it is asked to: it has nothing to hand back yet. Returns what was before.

    As the first process of a container it would not even be ended by the kernel, and code of the application, which is
    imported now, may catch what Python raises for a signal.
    """
    return {number: signal.signal(number, _leave) for number in signals()}


@contextlib.contextmanager
def ending_at_once() -> Generator[None]:
    """`end_at_once`, for a while; in another thread than the first, which hears no signals, nothing."""
    before = end_at_once() if threading.current_thread() is threading.main_thread() else {}
    try:
        yield
    finally:
        restore(before)


@contextlib.contextmanager
def ending_the_first_process() -> Generator[None]:
    """Let a signal that would end any other process end the first one of a container too, for a while.

    The kernel drops those that such a process has not set up. What the application has set up stays, Ctrl-C as well.
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
    """Answer signals as before."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
