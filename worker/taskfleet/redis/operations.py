"""Operations on whole queues and on the fleet: dead letters, purge, pause, cordon."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from taskfleet.protocol import bounds
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.dead_letter import warn_of_kept
from taskfleet.protocol.partitions import Partition, first_of, queue_of
from taskfleet.redis import keys
from taskfleet.redis.calls import operations
from taskfleet.redis.signalling import Signalling

_WAKE_TTL_MS = 60_000
_RUN_ID = re.compile(r"[0-9a-f]{40}")


class Operations(Signalling):
    """Operations for administrators and for the operator."""

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Requeue dead letters; `None` means all of them."""
        chunks = [list(ids[i:j]) for i, j, _ in bounds.windows(ids, _text_bytes)] if ids is not None else [None]
        moved, stay = 0, list[tuple[str, str]]()
        for partition in await self.partitions(queue):
            for chunk in chunks:
                if chunk is None:
                    moved += await self._requeue_all(partition, stay)
                else:
                    moved += await self._requeue_some(partition, chunk, stay)
        warn_of_kept(queue, stay)
        return moved

    async def requeue_letters(self, partition: Partition, ids: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
        """Requeue dead letters of one partition; returns their number, and those that stay, each with the task that has
        its unique key, or ''.
        """
        stay: list[tuple[str, str]] = []
        return await self._requeue_some(partition, list(ids), stay), stay

    async def _requeue_some(self, partition: Partition, ids: list[str], stay: list[tuple[str, str]]) -> int:
        """Requeue the dead letters `ids`; one call may take fewer of them where letters are large."""
        moved = 0
        while True:
            call = operations.requeue_dead(self.keys_of(partition), self.fleet, partition, ids, passed=0, most=None)
            reply = await self.call(call)
            moved += reply.moved
            stay += reply.stay
            ids = ids[reply.looked_at :]
            if not reply.looked_at or not ids:
                return moved

    async def _requeue_all(self, partition: Partition, stay: list[tuple[str, str]]) -> int:
        """Requeue the letters that exist at the first call. A task that dies again in the meantime is behind them."""
        moved, passed, left = 0, 0, None
        while True:
            call = operations.requeue_dead(self.keys_of(partition), self.fleet, partition, [], passed=passed, most=left)
            reply = await self.call(call)
            moved += reply.moved
            stay += reply.stay
            left = (reply.moved + reply.left if left is None else left) - reply.looked_at
            passed += reply.looked_at - reply.moved
            if not reply.looked_at or left <= 0:
                return moved

    async def purge_dead(self, queue: str) -> int:
        """Delete all dead letters; returns their number."""
        dropped = 0
        for partition in await self.partitions(queue):
            left = 1
            while left:
                reply = await self.call(operations.purge_dead(self.keys_of(partition)))
                dropped, left = dropped + reply.dropped, reply.left
                if reply.signals:
                    await self.relay(partition)
        return dropped

    async def purge(self, queue: str) -> int:
        """Delete all waiting tasks; returns their number."""
        dropped = 0
        for partition in await self.partitions(queue):
            left = 1
            while left:
                reply = await self.call(operations.purge(self.keys_of(partition)))
                dropped, left = dropped + reply.dropped, reply.left
                if reply.signals:
                    await self.relay(partition)
        return dropped

    async def pause(self, queue: str, *, partitions: int = 1) -> None:
        """Pause all partitions in Redis, and the first `partitions`, which may have had no task yet."""
        for partition in sorted({*await self.partitions(queue), *first_of(queue, partitions)}):
            control = self.keys_of(partition).control
            # A queue that has had no task yet is listed from now on, so that nobody forgets that it is paused.
            await self.patiently(lambda name=partition: self.client.redis.sadd(self.fleet.queues, name))
            await self.patiently(lambda key=control: self.client.redis.hset(key, "paused", 1))

    async def resume(self, queue: str) -> None:
        for partition in await self.partitions(queue):
            names = self.keys_of(partition)
            await self.patiently(lambda key=names.control: self.client.redis.hdel(key, "paused"))
            await self.patiently(lambda key=names.wake: self.client.redis.rpush(key, 1))
            await self.patiently(lambda key=names.wake: self.client.redis.pexpire(key, _WAKE_TTL_MS))

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete all keys of these queues, results included."""
        mine = sorted(
            {name for name in await self.partitions() if queue_of(name) in queues} | {*map(Partition, queues)}
        )
        for partition in mine:
            names = self.keys_of(partition)
            await self.patiently(lambda names=names: self.client.redis.unlink(*names, *names.schedules, names.history))
        await self._unlink_below([self.keys_of(partition).base for partition in mine])
        # They are listed until the end, so that a purge that dies is begun again.
        for partition in mine:
            await self.patiently(lambda name=partition: self.client.redis.srem(self.fleet.queues, name))

    async def _unlink_below(self, bases: Sequence[str]) -> None:
        """Delete all keys with these prefixes: results, and the last calls of senders. One pass, in short calls."""
        wanted = {base.encode() for base in bases}
        pattern = keys.literal(bases[0]) + "*" if len(bases) == 1 else keys.literal(self.prefix) + ":{*}:*"
        found: dict[bytes, list[bytes]] = defaultdict(list)
        async for key in self.client.scan(pattern, count=CHUNK):
            end = key.find(b"}:") + 2
            if key[:end] in wanted:
                some = found[key[:end]]
                some.append(key)
                if len(some) >= CHUNK:
                    await self.patiently(lambda some=tuple(some): self.client.redis.unlink(*some))
                    some.clear()
        for some in filter(None, found.values()):
            await self.patiently(lambda some=tuple(some): self.client.redis.unlink(*some))

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        """Tell the worker of that name to stop claiming; it reports `drained` when it is empty."""
        await self.patiently(lambda: self.client.redis.set(self.fleet.cordon(name), 1, px=int(ttl_seconds * 1000)))
        await self._announce_cordon(name)

    async def uncordon(self, name: str) -> None:
        await self.patiently(lambda: self.client.redis.delete(self.fleet.cordon(name)))
        await self._announce_cordon(name)

    async def hold(self, name: str, *, ttl_seconds: float) -> None:
        """Cordon the worker of that name for a person. `uncordon`, by which control loops tidy up, does not end it."""
        await self.patiently(lambda: self.client.redis.set(self.fleet.hold(name), 1, px=int(ttl_seconds * 1000)))
        await self._announce_cordon(name)

    async def release(self, name: str) -> bool:
        """End `hold`. Returns whether there was one; a cordon of a control loop stays."""
        found = await self.patiently(lambda: self.client.redis.delete(self.fleet.hold(name)))
        await self._announce_cordon(name)
        return bool(found)

    async def server_id(self) -> str:
        """The run id of the server that has the keys of the fleet: one id for all its addresses. "" for none.

        A server that starts again has another. `CallRefusedError` when our user may not ask.
        """

        async def ask() -> Any:
            return await (await self.client.redis_of(self.fleet.workers)).info("server")

        found = str((await self.patiently(ask)).get("run_id", ""))
        return found if _RUN_ID.fullmatch(found) else ""

    async def leave_mark(self, name: str, *, ttl_seconds: float) -> None:
        """Write a key that `has_mark` finds through any connection to the same keys, and through no other."""
        await self.patiently(lambda: self.client.redis.set(self.fleet.mark(name), 1, px=int(ttl_seconds * 1000)))

    async def has_mark(self, name: str) -> bool:
        return bool(await self.patiently(lambda: self.client.redis.exists(self.fleet.mark(name))))

    async def _announce_cordon(self, name: str) -> None:
        await self.patiently(lambda: self.client.redis.publish(self.fleet.control_channel, f"cordon {name}"))


def _text_bytes(text: str) -> int:
    return 4 * len(text)
