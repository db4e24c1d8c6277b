"""Finds the key that holds a value of another program, since Redis reports only WRONGTYPE."""

from __future__ import annotations

import contextlib

from taskfleet import foreign
from taskfleet.redis import keys
from taskfleet.redis.connection import RedisClient

_LISTS = {"ready", "wake", "outbox", "jobs"}
_SETS = {"await"}
_SORTED_SETS = {
    "lease", "delayed", "dead", "fair", "turns", "parked", "arrivals", "retry_at", "blocked", "ticks",
}  # fmt: skip
_MOST_QUEUES = 100  # the number of queues that are examined


async def explain(client: RedisClient, prefix: str) -> str:
    """A text for the user; empty when there is no such key any more, or the Redis user has no permission to look."""
    fleet = keys.FleetKeys(prefix)
    # Errors are suppressed, since the user needs to see the error that is explained here.
    with contextlib.suppress(Exception):
        for key, expected in ((fleet.queues, "set"), (fleet.workers, "zset")):
            if explanation := await _explained(client, key, expected):
                return explanation
        partitions = keys.partitions_among(await client.redis.smembers(fleet.queues), foreign.Skipped())
        for partition in sorted(partitions)[:_MOST_QUEUES]:
            names = keys.of_partition(prefix, partition)
            for key in (*names, *names.schedules):
                if explanation := await _explained(client, key, _type_of(key)):
                    return explanation
    return ""


async def _explained(client: RedisClient, key: str, expected: str) -> str:
    found = foreign.text(await client.redis.type(key))
    if found in (expected, "none"):
        return ""
    return (
        f"key {key!r} holds a {found}, where we keep a {expected}: another program uses it too; move it away, or set "
        "redis.key_prefix to a prefix of our own"
    )


def _type_of(key: str) -> str:
    part = key.rpartition(":")[2]
    return "list" if part in _LISTS else "set" if part in _SETS else "zset" if part in _SORTED_SETS else "hash"
