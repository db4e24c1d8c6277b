"""Processes that a test starts, and that end with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from taskfleet.child_process import ends_with_this_process

Start = Callable[..., subprocess.Popen[bytes]]


@contextlib.contextmanager
def python_processes(*first: str) -> Iterator[Start]:
    """`start(*arguments, folder=None, **environment)` runs `python -m` with `first` and the arguments.

    All processes are killed at the end.
    """
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", *first, *arguments],
            env=os.environ | environment,
            cwd=folder,
            stderr=subprocess.PIPE,
            preexec_fn=ends_with_this_process(),
        )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait(60)
            if process.stderr is not None:
                process.stderr.close()
