"""The one terminal of `taskfleet dev`, which several processes write to."""

from __future__ import annotations

import contextlib
import sys
import time

from taskfleet import showing


def say(text: str, *, more: str = "") -> None:
    """One line with the time, and the lines of `more` below it. They are written at once, so that none is torn."""
    below = f"{more.rstrip()}\n" if more else ""
    with contextlib.suppress(OSError, ValueError):  # the reader of the output may be gone
        sys.stdout.write(f"{time.strftime('%H:%M:%S')} {showing.shown(text, showing.MESSAGE_LIMIT)}\n{below}")
        sys.stdout.flush()
