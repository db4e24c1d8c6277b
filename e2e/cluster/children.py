"""Processes that end with their parent, however it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: after it, in the child of a process with threads, the loader's lock may be held.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def start_child(arguments: Sequence[str | Path], *, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes to `log`, and that the kernel kills when this process is gone."""
    parent = os.getpid()

    def end_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent went before prctl could say so
                os._exit(1)

    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
            start_new_session=True,  # Ctrl-C in a terminal stops the tests, which then stop their servers
        )


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
