"""A teardown that hangs ends the run, and tells where: the limit of a test no longer holds when it was used up.

A failed test may leave a thread that waits for ever; the end of its event loop would wait for the thread, and the run
with it, until somebody loses patience.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key

SECONDS = 600


@contextmanager
def limited(config: pytest.Config, seconds: float = SECONDS) -> Generator[None]:
    """After this time, the stacks of all threads are printed, and the run ends with exit code 1."""
    # pytest keeps standard error without its capture, but not with `-p no:faulthandler`.
    file = config.stash.get(fault_handler_stderr_fd_key, 2)
    faulthandler.dump_traceback_later(seconds, exit=True, file=file)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
