"""The end of a worker's process, whatever its tasks have left behind.

The interpreter waits for threads, and the event loop for tasks that it has cancelled: one that hangs would keep a
process that has done its work, and with it the pod or the supervisor that waits for it.
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

_SECONDS = 10.0  # for the ordinary end, with all that is registered for it


def soon(code: int) -> None:
    """End this process with `code` in some seconds, should it not have ended by itself."""
    threading.Thread(target=_wait_and_end, args=(code,), name="taskfleet-end", daemon=True).start()


def now(code: int) -> NoReturn:
    """End this process; what was logged and printed is written."""
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
