"""The exit of a worker's process, which happens even if tasks or threads of it remain.

The interpreter waits for threads, and the event loop for tasks that it has cancelled. One that hangs would keep a
process alive that has finished its work, and the pod or supervisor would wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from typing import NoReturn

from taskfleet import showing

logger = showing.logger("taskfleet.worker")

_SECONDS = 10.0  # for an ordinary exit with its registered functions


def soon(code: int) -> None:
    """End this process with `code` after some seconds, unless it has ended by itself."""
    threading.Thread(target=_wait_and_end, args=(code,), name="taskfleet-end", daemon=True).start()


def now(code: int) -> NoReturn:
    """End this process, after flushing the log and the output."""
    with contextlib.suppress(BaseException):
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)


def _wait_and_end(code: int) -> None:
    time.sleep(_SECONDS)
    left = [thread.name for thread in threading.enumerate() if not thread.daemon and thread.is_alive()]
    with contextlib.suppress(BaseException):
        logger.error("the process does not end by itself (its threads: %s) and is ended", ", ".join(left[:10]))
    now(code)
