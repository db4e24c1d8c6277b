"""Operations on many tasks or keys at once: dead letters, purge. A worker does not import them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from taskfleet.protocol import bounds
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.dead_record import warn_of_kept
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis import keys
from taskfleet.redis.calls import operations
from taskfleet.redis.signalling import Signalling


async def requeue_dead(queues: Signalling, queue: str, ids: Sequence[str] | None) -> int:
    """Requeue dead letters; `None` means all of them."""
    chunks = [list(ids[i:j]) for i, j, _ in bounds.windows(ids, _text_bytes)] if ids is not None else [None]
    moved, stay = 0, list[tuple[str, str]]()
    for partition in await queues.partitions(queue):
        for chunk in chunks:
            if chunk is None:
                moved += await _requeue_all(queues, partition, stay)
            else:
                moved += await _requeue_some(queues, partition, chunk, stay)
    warn_of_kept(queue, stay)
    return moved


async def requeue_letters(
    queues: Signalling, partition: Partition, ids: Sequence[str]
) -> tuple[int, list[tuple[str, str]]]:
    """Requeue dead letters of one partition; returns their number, and those that stay, each with the task that has
    its unique key, or ''.
    """
    stay: list[tuple[str, str]] = []
    return await _requeue_some(queues, partition, list(ids), stay), stay


async def _requeue_some(queues: Signalling, partition: Partition, ids: list[str], stay: list[tuple[str, str]]) -> int:
    """Requeue the dead letters `ids`; one call may take fewer of them where letters are large."""
    moved = 0
    while True:
        call = operations.requeue_dead(queues.keys_of(partition), queues.fleet, partition, ids, passed=0, most=None)
        reply = await queues.call(call)
        moved += reply.moved
        stay += reply.stay
        ids = ids[reply.looked_at :]
        if not reply.looked_at or not ids:
            return moved


async def _requeue_all(queues: Signalling, partition: Partition, stay: list[tuple[str, str]]) -> int:
    """Requeue the letters that exist at the first call. A task that dies again in the meantime is behind them."""
    moved, passed, left = 0, 0, None
    while True:
        call = operations.requeue_dead(queues.keys_of(partition), queues.fleet, partition, [], passed=passed, most=left)
        reply = await queues.call(call)
        moved += reply.moved
        stay += reply.stay
        left = (reply.moved + reply.left if left is None else left) - reply.looked_at
        passed += reply.looked_at - reply.moved
        if not reply.looked_at or left <= 0:
            return moved


async def purge_dead(queues: Signalling, queue: str) -> int:
    """Delete all dead letters; returns their number."""
    dropped = 0
    for partition in await queues.partitions(queue):
        left = 1
        while left:
            reply = await queues.call(operations.purge_dead(queues.keys_of(partition)))
            dropped, left = dropped + reply.dropped, reply.left
            if reply.signals:
                await queues.relay(partition)
    return dropped


async def purge(queues: Signalling, queue: str) -> int:
    """Delete all waiting tasks; returns their number."""
    dropped = 0
    for partition in await queues.partitions(queue):
        left = 1
        while left:
            reply = await queues.call(operations.purge(queues.keys_of(partition)))
            dropped, left = dropped + reply.dropped, reply.left
            if reply.signals:
                await queues.relay(partition)
    return dropped


async def purge_keys(broker: Signalling, queues: Sequence[str]) -> None:
    """Delete all keys of these queues, results included."""
    mine = sorted({name for name in await broker.partitions() if queue_of(name) in queues} | {*map(Partition, queues)})
    for partition in mine:
        names = broker.keys_of(partition)
        await broker.patiently(lambda names=names: broker.client.redis.unlink(*names, *names.schedules, names.history))
    await _unlink_below(broker, [broker.keys_of(partition).base for partition in mine])
    # They are listed until the end, so that a purge that dies is begun again.
    for partition in mine:
        await broker.patiently(lambda name=partition: broker.client.redis.srem(broker.fleet.queues, name))


async def _unlink_below(queues: Signalling, bases: Sequence[str]) -> None:
    """Delete all keys with these prefixes: results, and the last calls of senders. One pass, in short calls."""
    wanted = {base.encode() for base in bases}
    pattern = keys.literal(bases[0]) + "*" if len(bases) == 1 else keys.literal(queues.prefix) + ":{*}:*"
    found: dict[bytes, list[bytes]] = defaultdict(list)
    async for key in queues.client.scan(pattern, count=CHUNK):
        end = key.find(b"}:") + 2
        if key[:end] in wanted:
            some = found[key[:end]]
            some.append(key)
            if len(some) >= CHUNK:
                await queues.patiently(lambda some=tuple(some): queues.client.redis.unlink(*some))
                some.clear()
    for some in filter(None, found.values()):
        await queues.patiently(lambda some=tuple(some): queues.client.redis.unlink(*some))


def _text_bytes(text: str) -> int:
    return 4 * len(text)
