"""Finds the key that holds a value of another program, since Redis reports only WRONGTYPE."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from taskfleet import foreign
from taskfleet.redis import keys
from taskfleet.redis.connection import RedisClient

_STRINGS = {"history", "recorder"}
_LISTS = {"ready", "wake", "outbox", "jobs"}
_SETS = {"await"}
_SORTED_SETS = {
    "lease", "delayed", "dead", "fair", "turns", "parked", "arrivals", "retry_at", "blocked", "ticks", "scalers",
}  # fmt: skip
_MOST_QUEUES = 100  # the number of queues that are examined
_MOST_KEYS = _MOST_QUEUES * len(keys.QUEUE_PARTS)


async def explain(client: RedisClient, prefix: str, of_call: Sequence[str] = ()) -> str:
    """A text for the user; empty when there is no such key any more, or the Redis user has no permission to look.

    `of_call` are the keys of the call that has failed; without any all keys are examined.
    """
    # Errors are suppressed, since the user needs to see the error that is explained here.
    with contextlib.suppress(Exception):
        for key in of_call[:_MOST_KEYS]:
            if explanation := await _explained(client, prefix, key):
                return explanation
        if not of_call:
            async for key in _all(client, prefix):
                if explanation := await _explained(client, prefix, key):
                    return explanation
    return ""


async def _all(client: RedisClient, prefix: str) -> AsyncIterator[str]:
    fleet = keys.FleetKeys(prefix)
    yield fleet.queues
    yield fleet.workers
    partitions = keys.partitions_among(await client.redis.smembers(fleet.queues), foreign.Skipped())
    for partition in sorted(partitions)[:_MOST_QUEUES]:
        names = keys.of_partition(prefix, partition)
        for key in (*names, *names.schedules):
            yield key


async def _explained(client: RedisClient, prefix: str, key: str) -> str:
    expected = _type_of(prefix, key)
    found = foreign.text(await client.redis.type(key)) if expected else ""
    if found in (expected, "none"):
        return ""
    return (
        f"key {key!r} holds a {found}, where we keep a {expected}: another program uses it too; move it away, or set "
        "redis.key_prefix to a prefix of our own"
    )


def _type_of(prefix: str, key: str) -> str:
    """The type of a key that each queue or the fleet has once, "" for any other."""
    fleet = keys.FleetKeys(prefix)
    if key in (fleet.queues, fleet.workers):
        return "set" if key == fleet.queues else "zset"
    part = key.rpartition("}:")[2]
    if part in _STRINGS or part.startswith(("replicas:", "note:")):
        return "string"
    if part.startswith(("decisions:", "held:")) or part == "audit":
        return "list"
    if part in _LISTS:
        return "list"
    if part in _SETS:
        return "set"
    if part in _SORTED_SETS:
        return "zset"
    return "hash" if part in keys.QUEUE_PARTS or part in ("schedules", "ticked", "latest") else ""
