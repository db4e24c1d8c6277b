"""Children that do not outlive us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def start(command: Sequence[str], *, environment: Mapping[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start a child that gets SIGTERM when this process is gone, even if that was killed with -9 (on Linux).

    It runs in a session of its own: Ctrl-C is for us to hear, and ours to pass on as a drain. It writes to a file, not
    to a pipe, so that after our death its last words do not break it.
    """
    parent = os.getpid()

    def tie() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before we could tell the kernel
                os._exit(1)

    with output.open("ab") as sink:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=tie,  # this process has one thread when it starts children
        )
