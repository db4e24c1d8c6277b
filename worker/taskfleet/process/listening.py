"""A listening socket for an address of either family. `::` takes IPv4 and IPv6, as a pod may have either or both."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

ALL_ADDRESSES = "::"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on a host name or address. Port 0 takes a free one.

    `::` listens on all addresses of IPv6 and of IPv4, and where there is no IPv6 on those of IPv4. Errors: `OSError`.
    """
    if host in ("", ALL_ADDRESSES):
        with contextlib.suppress(OSError):
            return _bound(socket.AF_INET6, ("::", port))
        return _bound(socket.AF_INET, ("0.0.0.0", port))  # noqa: S104 - all addresses are what is asked for
    problem: OSError | None = None
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        try:
            return _bound(family, address)
        except OSError as error:
            problem = problem or error
    raise problem or OSError(f"{host} has no address")


def _bound(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # The system's default may be either. Only the address of all addresses takes both families.
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != ALL_ADDRESSES))
        made.bind(address)
        made.listen(128)
    except BaseException:
        made.close()
        raise
    return made
