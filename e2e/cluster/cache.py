"""Where built things are kept between runs, outside of the checkout."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path


def cache_folder() -> Path:
    """`TASKFLEET_CACHE`, else `taskfleet` in the user's cache folder."""
    if chosen := os.environ.get("TASKFLEET_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "taskfleet"


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock across processes, so that two tiers side by side do not build one thing twice."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def progress(what: str) -> Iterator[None]:
    """One line on standard error, with the seconds it took, for a step that takes long."""
    started = time.monotonic()
    yield
    print(f"cluster: {what} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)
