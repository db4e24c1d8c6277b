"""Which key holds something else than ours, when Redis says no more than that one does (WRONGTYPE)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from taskfleet import foreign

if TYPE_CHECKING:
    from taskfleet.redis.broker import RedisBroker

_LISTS = {"ready", "wake", "outbox"}
_SETS = {"await"}
_SORTED_SETS = {
    "lease", "delayed", "dead", "fair", "turns", "parked", "arrivals", "retry_at", "blocked", "ticks",
}  # fmt: skip
_MOST_QUEUES = 100  # of those that are looked through


async def explain(broker: RedisBroker) -> str:
    """What a user is told; empty when there is no such key any more, or our user may not look."""
    # Whatever goes wrong here: the error that we were to explain is told.
    with contextlib.suppress(Exception):
        for key, expected in _of_fleet(broker):
            if told := await _told(broker, key, expected):
                return told
        members = await broker.client.redis.smembers(broker.fleet.queues)
        for queue in sorted(broker.places(members))[:_MOST_QUEUES]:
            names = broker.keys_of(queue)
            for key in (*names.all, *names.schedules):
                if told := await _told(broker, key, _type_of(key)):
                    return told
    return ""


def _of_fleet(broker: RedisBroker) -> Iterable[tuple[str, str]]:
    return (broker.fleet.queues, "set"), (broker.fleet.workers, "zset")


async def _told(broker: RedisBroker, key: str, expected: str) -> str:
    found = foreign.text(await broker.client.redis.type(key))
    if found in (expected, "none"):
        return ""
    return (
        f"key {key!r} holds a {found}, where we keep a {expected}: another program uses it too; move it away, or set "
        "redis.key_prefix to a prefix of our own"
    )


def _type_of(key: str) -> str:
    part = key.rpartition(":")[2]
    return "list" if part in _LISTS else "set" if part in _SETS else "zset" if part in _SORTED_SETS else "hash"
