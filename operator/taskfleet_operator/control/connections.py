"""TCP connections that deliver nothing after the process has given a call up.

A closed socket goes on sending what the kernel holds for it, for minutes when the network is down. A write that was
given up because another operator leads by now would then take effect when the network comes back.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import aiohttp

_UNHEARD_MS = 5000  # without an acknowledgement for so long, the kernel drops a connection with all that it holds
_NOTHING_AFTER_CLOSE = struct.pack("ii", 1, 0)


def connection(address: tuple[Any, ...]) -> socket.socket:
    """A socket for one address of `getaddrinfo`."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOTHING_AFTER_CLOSE)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNHEARD_MS)
    return made


def without_late_writes(api: Any) -> Any:
    """Let an `ApiClient` of the Kubernetes client use such connections. To be called on the loop that will use it."""
    rest = api.rest_client
    connector = aiohttp.TCPConnector(limit=rest.maxsize, ssl=rest.ssl_context, socket_factory=connection)
    # As the client makes its session itself; an event of a watch may be larger than aiohttp's buffer.
    rest.pool_manager = aiohttp.ClientSession(connector=connector, trust_env=True, read_bufsize=2**21)
    return api
