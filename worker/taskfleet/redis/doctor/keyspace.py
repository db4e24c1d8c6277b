"""Looks at the names of all keys: queues that are not listed, keys that should end and do not, and cordons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis import exceptions as redis_exceptions

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.rings import QUEUE_RINGS
from taskfleet.redis import keys
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.queue_calls import QueueCalls
from taskfleet.redis.redis_errors import connection_error

_SCANNED = 1000  # keys that one SCAN looks at, and that are asked for their time to live together
_KEPT_MS = 86_400_000  # that a result is kept from now on, which would have stayed for ever
_LASTING = {*keys.QUEUE_PARTS, "schedules", "ticks", "ticked"} - {"wake", "await", "arrivals"}
_FLEETING = ("r:", "s:", "history", "held:")  # results, last calls of senders, figures over time, discarded letters
_FLEETING_OF_FLEET = (
    "who:", "cordon:", "hold:", "mark:", "worker:", "recorder", "scalers", "latest", "decisions:", "replicas:",
    "audit", "note:",
)  # fmt: skip
_NOBODY = Partition("")


@dataclass
class Keyspace:
    """`partitions` are all that have lasting keys, `cordons` the names of cordoned workers."""

    faults: list[Fault] = field(default_factory=list[Fault])
    partitions: set[Partition] = field(default_factory=set[Partition])
    cordons: set[str] = field(default_factory=set[str])


async def survey(queues: QueueCalls) -> Keyspace:
    """One pass through the keys of all servers, in short calls."""
    found = Keyspace()
    listed = await _listed(queues, found)
    batch: list[bytes] = []
    try:
        async for key in queues.client.scan(f"{keys.literal(queues.prefix)}:{{*}}:*", count=_SCANNED):
            if _place(queues, key, found):
                batch.append(key)
            if len(batch) >= _SCANNED:
                found.faults += [*await _without_ttl(queues, batch), *await _foreign(queues, batch)]
                batch.clear()
    except (redis_exceptions.RedisError, OSError) as error:
        raise connection_error(queues.client.url, error) from None
    found.faults += [*await _without_ttl(queues, batch), *await _foreign(queues, batch)]
    for partition in sorted(found.partitions - listed):
        if await is_unlisted(queues, partition):
            found.faults.append(Fault("queue-unlisted", partition, "queues", partition.encode()))
    found.partitions |= listed
    return found


async def _listed(queues: QueueCalls, found: Keyspace) -> set[Partition]:
    key = queues.fleet.queues
    if await queues.patiently(lambda: queues.client.redis.pttl(key)) >= 0:
        found.faults.append(Fault("key-expires", _NOBODY, "queues", key.encode()))
    listed: set[Partition] = set()
    for member in await queues.patiently(lambda: queues.client.redis.smembers(key)):
        try:
            listed.add(Partition(foreign.partition(member)))
        except foreign.ForeignError:
            found.faults.append(Fault("queue-name-invalid", _NOBODY, "queues", member))
    return listed


def _place(queues: QueueCalls, key: bytes, found: Keyspace) -> bool:
    """Note what the name of a key tells. Whether the key should have a time to live."""
    tagged, _, part = foreign.text(key.removeprefix(f"{queues.prefix}:".encode())).partition("}:")
    if tagged == "{fleet":
        if part.startswith(("cordon:", "hold:")):
            found.cordons.add(part.partition(":")[2])
        return part.startswith(_FLEETING_OF_FLEET)
    if part in _LASTING:
        try:
            found.partitions.add(Partition(foreign.partition(tagged[1:])))
        except foreign.ForeignError:
            return False
    return part.startswith(_FLEETING)


async def _without_ttl(queues: QueueCalls, some: Sequence[bytes]) -> list[Fault]:
    if not some:
        return []

    async def ask() -> list[int]:
        pipeline = queues.client.redis.pipeline(transaction=False)
        for key in some:
            pipeline.pttl(key)
        found: list[int] = await pipeline.execute()
        return found

    ttls = await queues.patiently(ask)
    return [
        Fault("key-stays", _NOBODY, "key", key, foreign.text(key).partition("}:")[2][:60])
        for key, ttl in zip(some, ttls, strict=True)
        if ttl == -1
    ]


async def _foreign(queues: QueueCalls, some: Sequence[bytes]) -> list[Fault]:
    """Histories that another program has written over: figures are not recorded there."""
    histories = [key for key in some if key.endswith(b"}:history")]
    if not histories:
        return []

    async def ask() -> list[Any]:
        pipeline = queues.client.redis.pipeline(transaction=False)
        for key in histories:
            pipeline.type(key).strlen(key)
        found: list[Any] = await pipeline.execute(raise_on_error=False)
        return found

    answers = await queues.patiently(ask)
    faults: list[Fault] = []
    for key, kind, size in zip(histories, answers[::2], answers[1::2], strict=True):
        evidence = ""
        if kind not in (b"string", b"none"):
            evidence = f"a {foreign.text(kind)}"
        elif kind == b"string" and size != QUEUE_RINGS.size:
            evidence = f"a text of {size} bytes"
        if evidence:
            faults.append(Fault("history-foreign", _NOBODY, "key", key, evidence))
    return faults


async def is_unlisted(queues: QueueCalls, partition: Partition) -> bool:
    """Whether a partition has keys, and is not in the list of queues: looked at in this order, for a purge may run."""
    names = queues.keys_of(partition)
    redis = queues.client.redis
    lasting = [name for name in (*names, *names.schedules) if name.rpartition(":")[2] in _LASTING]
    if await queues.patiently(lambda: redis.sismember(queues.fleet.queues, partition)):
        return False
    if not await queues.patiently(lambda: redis.exists(*lasting)):
        return False
    return not await queues.patiently(lambda: redis.sismember(queues.fleet.queues, partition))


async def mend(queues: QueueCalls, fault: Fault) -> int:
    """Repair a fault that `survey` has found: 1 repaired, 0 not there any more, -1 nothing can be done."""
    redis, member = queues.client.redis, fault.member
    match fault.code:
        case "queue-unlisted":
            if not await is_unlisted(queues, fault.partition):
                return 0
            await queues.patiently(lambda: redis.sadd(queues.fleet.queues, fault.partition))
        case "queue-name-invalid":
            return int(await queues.patiently(lambda: redis.srem(queues.fleet.queues, member)))
        case "key-expires":
            return int(await queues.patiently(lambda: redis.persist(member)))
        case "key-stays":
            if await queues.patiently(lambda: redis.pttl(member)) != -1:
                return 0
            return int(await queues.patiently(lambda: redis.pexpire(member, _KEPT_MS)))
        case _:
            return -1
    return 1
