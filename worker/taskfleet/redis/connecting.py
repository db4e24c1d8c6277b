"""Makes the client that fits a URL."""

from __future__ import annotations

from taskfleet.redis.connection import RedisClient
from taskfleet.redis.connection_options import ConnectionOptions


def connect(options: ConnectionOptions) -> RedisClient:
    """A client for the kind of Redis at the address. Nothing connects before the first call."""
    if options.address.kind != "cluster":
        return RedisClient(options)
    from taskfleet.redis.cluster import ClusterClient  # few have one, and it takes memory

    return ClusterClient(options)
