"""The limit keys and fair keys of a queue with the most tasks, found by a bounded number of short calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import inspection
from taskfleet.redis.keys import QueueKeys

MOST_KEYS: Final = 5000
"""Of a partition, so many limit keys are looked at."""

MOST_TASKS: Final = 2000
"""Of a partition, so many tasks with fair keys, and so many that run. Of more that wait, a sample is taken."""

_KEYS_TOGETHER = 500
_TAGS_TOGETHER = 200


@dataclass(frozen=True, slots=True)
class KeyLoad:
    """One key: the tasks that wait for it, and those that run."""

    key: str
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class HeaviestKeys:
    """The keys of one queue, those with the most tasks first.

    A limit key's waiting tasks are those that wait for a slot or token of it. Unless `whole`, only a part was looked
    at, or too many things moved meanwhile: keys may be missing, and the tasks that wait with a fair key are estimates.
    """

    limit_keys: list[KeyLoad]
    fair_keys: list[KeyLoad]
    whole: bool


class _Loads:
    """Waiting and running tasks by key, so far."""

    def __init__(self) -> None:
        self.waiting: Counter[bytes] = Counter()
        self.running: Counter[bytes] = Counter()
        self.whole = True

    def heaviest(self, most: int) -> list[KeyLoad]:
        keys = self.waiting.keys() | self.running.keys()
        ranked = sorted(keys, key=lambda key: (-self.waiting[key] - self.running[key], -self.waiting[key], key))
        return [KeyLoad(_text(key), self.waiting[key], self.running[key]) for key in ranked[:most]]


def _text(key: bytes) -> str:
    return foreign.text(key)


async def heaviest_keys(broker: RedisBroker, queue: str, most: int = 20) -> HeaviestKeys:
    """At most `most` limit keys, and as many fair keys, of a queue. Errors: `BrokerConnectionError`.

    Limit keys are counted, up to 5,000 of a partition. Tasks with fair keys have to be looked at one by one: all of
    them up to 2,000 of a partition, and of more a sample.
    """
    limit, fair = _Loads(), _Loads()
    for partition in await broker.partitions(queue):
        await _count_limit_keys(broker, partition, limit)
        await _count_fair_keys(broker, partition, fair)
    return HeaviestKeys(limit.heaviest(most), fair.heaviest(most), limit.whole and fair.whole)


async def _count_limit_keys(broker: RedisBroker, partition: Partition, loads: _Loads) -> None:
    names = broker.keys_of(partition)
    after, waiting = b"", 0
    while waiting < MOST_KEYS:
        page = await broker.call(inspection.limit_keys(names, after, limit=_KEYS_TOGETHER))
        for one in page:
            loads.waiting[one.key] += one.waiting
        waiting += len(page)
        if len(page) < _KEYS_TOGETHER:
            break
        after = page[-1].key
    else:
        loads.whole = False
    cursor = looked_at = 0
    while True:
        cursor, entries = await broker.patiently(
            lambda cursor=cursor: broker.client.redis.hscan(names.slots, cursor, count=_KEYS_TOGETHER),
            of_call=[names.slots],
        )
        running = {key: int(held) for key, held in entries.items() if held.isdigit() and len(held) <= 9}
        loads.running.update(running)
        looked_at += max(1, len(entries))
        if not cursor:
            return
        if looked_at >= MOST_KEYS:
            loads.whole = False
            return


async def _count_fair_keys(broker: RedisBroker, partition: Partition, loads: _Loads) -> None:
    names = broker.keys_of(partition)
    redis = broker.client.redis
    total: int = await broker.patiently(lambda: redis.zcard(names.fair), of_call=[names.fair])
    if total > MOST_TASKS:
        loads.whole = False
        ids: list[bytes] = await broker.patiently(lambda: redis.zrandmember(names.fair, MOST_TASKS))
    else:
        ids = await broker.patiently(lambda: redis.zrange(names.fair, 0, MOST_TASKS - 1))
    sample = await _by_fair_key(broker, names, ids)
    scale = total / len(ids) if len(ids) < total else 1.0
    loads.waiting.update({key: round(count * scale) for key, count in sample.items()})
    running: list[bytes] = await broker.patiently(
        lambda: redis.zrange(names.lease, 0, MOST_TASKS), of_call=[names.lease]
    )
    loads.whole = loads.whole and len(running) <= MOST_TASKS
    loads.running.update(await _by_fair_key(broker, names, running[:MOST_TASKS]))


async def _by_fair_key(broker: RedisBroker, names: QueueKeys, ids: Sequence[bytes]) -> Mapping[bytes, int]:
    """The tasks of each fair key among `ids`. A task without one has no key of its own."""
    found: Counter[bytes] = Counter()
    for start in range(0, len(ids), _TAGS_TOGETHER):
        some = ids[start : start + _TAGS_TOGETHER]
        tags = await broker.patiently(lambda some=some: broker.client.redis.hmget(names.tag, some), of_call=[names.tag])
        found.update(_fair_keys(tags))
    return found


def _fair_keys(tags: Iterable[bytes | None]) -> Iterable[bytes]:
    for tag in tags:
        if tag is None:
            continue
        try:
            key: Any = msgpack.unpackb(tag, raw=True, strict_map_key=False).get(b"f")
        except Exception:  # noqa: S112  # another program has written it
            continue
        if isinstance(key, bytes) and key:
            yield key
