"""Processes that end with their parent, however it ends."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

_PORTS = range(10_500, 12_000)
_choice = random.SystemRandom()
_marks: list[socket.socket] = []


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
    """Free ports of 127.0.0.1, all different, which nobody else gets before a server has bound them.

    The kernel gives a port of its own range to whoever asks for any port, and to outgoing connections: an API server
    binds its port seconds after it was chosen. These are below that range, and marked until this process ends.
    """
    found: list[int] = []
    while len(found) < count:
        port = _choice.choice(_PORTS)
        if _is_free(port) and _is_marked(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _is_marked(port: int) -> bool:
    """Whether the port is this process's from now on: an abstract name, which Linux gives to one, marks it."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0taskfleet-test-port-{port}")
    except OSError:
        mark.close()
        return False
    _marks.append(mark)
    return True
