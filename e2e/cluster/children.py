"""Processes that end with their parent, however it ends."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path


def start_child(arguments: Sequence[str | Path], *, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes to `log`, and that the kernel kills when this process is gone."""
    from taskfleet.child_process import ends_with_this_process  # `python -m e2e.cluster` runs without the product

    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=ends_with_this_process(),
            start_new_session=True,  # Ctrl-C in a terminal stops the tests, which then stop their servers
        )


def free_ports(count: int) -> list[int]:
    """Free ports of 127.0.0.1, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()
