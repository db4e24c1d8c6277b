"""The parent of this process, as the process itself sees it: child_process.py has the other end of the pipe."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from taskfleet import showing

logger = showing.logger("taskfleet.process")

VARIABLE = "TASKFLEET_PARENT_PIPE"
DRAIN, HURRY = b"d", b"h"


class Parent:
    """The process that has started this one as a `Child`, if there is one.

    Until `listen` is called this process holds no tasks, so it ends at once when its parent asks or is gone.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """`descriptor` is the pipe of a process that was forked; a command finds its own in a variable."""
        self._lock = threading.Lock()
        self._drain: Callable[[], object] | None = None
        self._hurry: Callable[[], object] = _exit
        self._patience = 0.0
        found = os.environ.pop(VARIABLE, "")  # children of this process are not children of its parent
        number = found if descriptor is None else str(descriptor)
        if number.isdigit():
            with contextlib.suppress(OSError):
                os.set_inheritable(int(number), False)
                threading.Thread(target=self._read, args=(int(number),), name="taskfleet-parent", daemon=True).start()

    def listen(self, drain: Callable[[], object], hurry: Callable[[], object], patience: float) -> None:
        """Call these in another thread from now on. When the parent is gone, draining may take `patience` seconds."""
        with self._lock:
            self._drain, self._hurry, self._patience = drain, hurry, patience

    def _read(self, descriptor: int) -> None:
        while told := os.read(descriptor, 1):
            if told == HURRY:
                self._hurry()
            else:
                self._end()
        self._end()
        logger.warning("the process that has started this one is gone: draining")
        time.sleep(self._patience)
        logger.error("draining takes longer than %.0f s: ending at once", self._patience)
        os._exit(1)

    def _end(self) -> None:
        with self._lock:
            if self._drain is None:
                os._exit(0)
            self._drain()


def _exit() -> None:
    os._exit(0)
