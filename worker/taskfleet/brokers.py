"""The broker for an address: in Redis, or in the memory of this process."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from taskfleet.settings import RedisSettings

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker


def broker_at(url: str | None, redis: RedisSettings, *, stored_limit_bytes: int) -> Broker:
    """A broker that connects at its first call; without `url` at the address in the settings.

    `stored_limit_bytes` is the largest task or result, which one reply of Redis must be able to hold. The modules of
    the broker, and the client of Redis, are imported here, so that a program without Redis does not load them.
    """
    address = redis.url if url is None else url
    # A caller without a type checker may pass any value.
    if isinstance(address, str) and address.startswith("memory:"):  # pyright: ignore[reportUnnecessaryIsInstance]
        from taskfleet.memory.broker import InMemoryBroker

        return InMemoryBroker.of_url(address, redis.key_prefix)
    from taskfleet.redis import replies
    from taskfleet.redis.broker import RedisBroker
    from taskfleet.redis.connecting import connect
    from taskfleet.redis.from_settings import options_of, url_of

    options = options_of(redis, url_of(redis) if url is None else url)
    options = dataclasses.replace(options, reply_bytes=replies.bound(stored_limit_bytes))
    return RedisBroker(connect(options), redis.key_prefix)
