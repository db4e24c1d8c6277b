"""Ports of this machine for servers that tests start."""

from __future__ import annotations

import contextlib
import random
import socket
import sys
from collections import deque

_PORTS = range(12_000, 22_000)  # Linux gives none of them away by itself, nor those 10000 above
_MOST_RESERVED = 200
_reserved: deque[socket.socket] = deque()
_choice = random.SystemRandom()  # tests seed the usual one


def free_port() -> int:
    """A free port that no other test gets, in this process or another. That of a Cluster bus, 10000 above, is free too.

    A server binds it later, and again when it is started again. A port that the kernel had chosen could be given to
    somebody else meanwhile: to a server of another test that asks for any port, or to an outgoing connection.
    """
    while True:
        port = _choice.choice(_PORTS)
        if _is_free(port) and _is_free(port + 10_000) and _reserved_now(port):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


def _reserved_now(port: int) -> bool:
    """Reserve a port, unless a test has done so; until this process ends, or has reserved many others."""
    if sys.platform != "linux":
        return True
    mark = socket.socket(socket.AF_UNIX)
    try:
        # A name without a file: the kernel gives it to one process, and takes it back at the end of that.
        mark.bind(f"\0taskfleet-test-port-{port}")
    except OSError:
        mark.close()
        return False
    _reserved.append(mark)
    if len(_reserved) > _MOST_RESERVED:
        _reserved.popleft().close()
    return True
