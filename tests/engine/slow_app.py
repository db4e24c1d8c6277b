"""An application whose import is slow and swallows the exceptions that Python raises for signals."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from taskfleet import TaskQueue

queue = TaskQueue()

Path(os.environ["IMPORTING"]).touch()
_end = time.monotonic() + 60.0
while time.monotonic() < _end:
    with contextlib.suppress(BaseException):
        time.sleep(0.1)
