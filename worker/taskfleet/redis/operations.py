"""Operations on whole queues and on the fleet: dead letters, purge, pause, cordon.

What changes many tasks at once is imported by the methods that do it: a worker never does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from taskfleet.protocol.partitions import Partition, first_of
from taskfleet.redis.signalling import Signalling

_WAKE_TTL_MS = 60_000
_RUN_ID = re.compile(r"[0-9a-f]{40}")


class Operations(Signalling):
    """Operations for administrators and for the operator."""

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Requeue dead letters; `None` means all of them."""
        from taskfleet.redis import mass_operations

        return await mass_operations.requeue_dead(self, queue, ids)

    async def requeue_letters(self, partition: Partition, ids: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
        """Requeue dead letters of one partition; returns their number, and those that stay, each with the task that has
        its unique key, or ''.
        """
        from taskfleet.redis import mass_operations

        return await mass_operations.requeue_letters(self, partition, ids)

    async def purge_dead(self, queue: str) -> int:
        """Delete all dead letters; returns their number."""
        from taskfleet.redis import mass_operations

        return await mass_operations.purge_dead(self, queue)

    async def purge(self, queue: str) -> int:
        """Delete all waiting tasks; returns their number."""
        from taskfleet.redis import mass_operations

        return await mass_operations.purge(self, queue)

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
        from taskfleet.redis import mass_operations

        await mass_operations.purge_keys(self, queues)

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
