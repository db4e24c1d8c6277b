"""Sockets of the operator's servers, for IPv6 and IPv4."""

from __future__ import annotations

import errno
import socket

from taskfleet.errors import ConfigurationError


def listening(port: int, option: str) -> socket.socket:
    """A socket for IPv6 and IPv4, or for IPv4 alone where there is no IPv6."""
    try:
        if socket.has_dualstack_ipv6():
            try:
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
        return socket.create_server(("", port))
    except OSError as error:
        raise ConfigurationError(f"{option} {port}: cannot listen: {error.strerror}; choose another port") from None
