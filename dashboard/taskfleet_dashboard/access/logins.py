"""Wrong tokens at the login: whoever sends many has to wait, and nobody else has."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

MOST_FAILURES, SECONDS = 20, 60.0
"""Wrong tokens of one address within so many seconds."""

_MOST_ADDRESSES = 10_000
_NETWORK_BITS = 64  # of IPv6: one host has as many addresses as it wants


class Logins:
    """After 20 wrong tokens within a minute an address cannot log in until the minute is over."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, list[float]] = {}

    def may_try(self, address: str) -> bool:
        """Whether this address may log in now."""
        return len(self._of(address)) < MOST_FAILURES

    def failed(self, address: str) -> None:
        """It has sent a wrong token."""
        failures = [*self._of(address), self._clock()]
        self._failures.pop(_host_of(address), None)
        if len(self._failures) >= _MOST_ADDRESSES:
            del self._failures[next(iter(self._failures))]  # the one that has been quiet the longest
        self._failures[_host_of(address)] = failures

    def _of(self, address: str) -> list[float]:
        since = self._clock() - SECONDS
        return [at for at in self._failures.get(_host_of(address), ()) if at > since]


def _host_of(address: str) -> str:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""  # of a Unix socket, or of a test
    if found.version == 4:
        return str(found)
    mapped = found.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(found), _NETWORK_BITS), strict=False))
