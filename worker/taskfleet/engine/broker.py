"""The queue in Redis, as producers, views and the operator use it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgpack
from redis import exceptions as redis_errors

from taskfleet.engine import connection, keys, scripts
from taskfleet.engine.registry import WorkerInfo
from taskfleet.engine.stats import QueueStats
from taskfleet.errors import QueueFullError

CHUNK = 1000  # tasks in one script call: bounded, so that no call holds Redis for long

Item = tuple[str, bytes, int, int]  # id, envelope, delay_ms, eta_ms (0: none)


class RedisBroker:
    """All operations on queues. Nothing connects before the first call.

    Errors: `BrokerConnectionError` when Redis does not answer after a few tries.
    """

    def __init__(self, client: connection.RedisClient, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.fleet = keys.FleetKeys(prefix)
        self._known: set[str] = set()
        self._keys: dict[str, keys.QueueKeys] = {}

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "taskfleet",
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        command_timeout: float = 5.0,
        **connection_options: Any,
    ) -> RedisBroker:
        """Timeouts in seconds; further options go to redis-py's connections (username, password, ssl_…)."""
        client = connection.RedisClient(
            url,
            pool_size=pool_size,
            connect_timeout=connect_timeout,
            command_timeout=command_timeout,
            **connection_options,
        )
        return cls(client, prefix)

    def keys_of(self, queue: str) -> keys.QueueKeys:
        names = self._keys.get(queue)
        if names is None:
            names = self._keys[queue] = keys.of_queue(self.prefix, queue)
        return names

    async def ping(self) -> None:
        await self._patiently(lambda: self.client.redis.ping())

    async def close(self) -> None:
        await self.client.close()

    # Producers.

    async def enqueue(self, queue: str, items: Sequence[Item], *, max_length: int = 0) -> int:
        """Add tasks in order; returns how many were new. All or nothing when `max_length` would be passed."""
        if queue not in self._known:
            await self._patiently(lambda: self.client.redis.sadd(self.fleet.queues, queue))
            self._known.add(queue)
        names = self.keys_of(queue)
        added = 0
        for start in range(0, len(items), CHUNK):
            chunk = items[start : start + CHUNK]
            packed = msgpack.packb(chunk, use_bin_type=False)
            args = (self.fleet.activity, queue, max_length, len(items) - start, packed)

            async def send(attempt: int, chunk: Sequence[Item] = chunk, args: Sequence[Any] = args) -> Any:
                # Sent again after a lost reply, the tasks may have run already: their results tell.
                results = [names.result(item[0]) for item in chunk] if attempt else []
                return await self.client.run(scripts.ENQUEUE, (*names.all, *results), args)

            reply = await self.client.patiently(send)
            if reply[0] < 0:
                raise QueueFullError(
                    f"queue {queue!r} is full: {reply[1]} of at most {max_length} tasks wait; "
                    "try again later or raise max_length"
                )
            added += reply[0]
        return added

    async def cancel(self, queue: str, task_id: str, record: bytes, ttl_ms: int) -> bool:
        names = self.keys_of(queue)
        args = (task_id, record, ttl_ms, self.fleet.control_channel, names.done_channel)
        reply = await self._patiently(
            lambda: self.client.run(scripts.CANCEL, (*names.all, names.result(task_id)), args)
        )
        return bool(reply)

    async def status(self, queue: str, task_id: str, *, announce: bool = False) -> tuple[str, bytes]:
        """(state, result record or dead letter); with `announce` the task's end is published on the done channel."""
        names = self.keys_of(queue)
        state, data = await self._patiently(
            lambda: self.client.run(
                scripts.STATUS, (*names.all, names.result(task_id)), (task_id, "1" if announce else "0")
            )
        )
        return state.decode(), data

    # Views.

    async def queues(self) -> list[str]:
        """The names of all queues that ever had a task."""
        members = await self._patiently(lambda: self.client.redis.smembers(self.fleet.queues))
        return sorted(member.decode() for member in members)

    async def stats_many(self, queues: Sequence[str], *, horizon_ms: int = 0) -> dict[str, QueueStats]:
        """The figures of several queues in one round trip."""
        if not queues:
            return {}
        calls = [(self.keys_of(queue).all, (horizon_ms,)) for queue in queues]
        replies = await self._patiently(lambda: self.client.run_many(scripts.STATS, calls))
        return {queue: QueueStats.of_reply(reply) for queue, reply in zip(queues, replies, strict=True)}

    async def workers(self) -> list[WorkerInfo]:
        """The workers whose heartbeat has not expired."""

        async def read() -> list[WorkerInfo]:
            redis = self.client.redis
            entries = await redis.zrange(self.fleet.workers, 0, -1, withscores=True)
            if not entries:
                return []
            pipeline = redis.pipeline(transaction=False)
            pipeline.time()
            for worker_id, _ in entries:
                pipeline.hgetall(self.fleet.worker(worker_id.decode()))
            (seconds, micros), *hashes = await pipeline.execute()
            now_ms = seconds * 1000 + micros / 1000
            return [
                WorkerInfo.of_hash(worker_id.decode(), fields, beat, now_ms)
                for (worker_id, beat), fields in zip(entries, hashes, strict=True)
                if fields
            ]

        found: list[WorkerInfo] = await self._patiently(read)
        return found

    async def dead_letters(self, queue: str, *, offset: int = 0, limit: int = 100) -> list[tuple[str, bytes]]:
        """(id, packed dead letter), oldest first."""

        async def read() -> list[tuple[str, bytes]]:
            names = self.keys_of(queue).all
            ids = await self.client.redis.zrange(names[6], offset, offset + limit - 1)
            letters = await self.client.redis.hmget(names[7], ids) if ids else []
            return [(i.decode(), letter) for i, letter in zip(ids, letters, strict=True) if letter is not None]

        found: list[tuple[str, bytes]] = await self._patiently(read)
        return found

    # Operations.

    async def requeue_dead(self, queue: str, ids: Sequence[str] | None) -> int:
        """Put dead letters back; `None` means all of them."""
        names = self.keys_of(queue).all
        moved = 0
        chunks = [list(ids[i : i + CHUNK]) for i in range(0, len(ids), CHUNK)] if ids is not None else [[]]
        for chunk in chunks:
            left = 1
            while left:
                args = (self.fleet.activity, queue, CHUNK, msgpack.packb(chunk))
                count, left = await self._patiently(
                    functools.partial(self.client.run, scripts.REQUEUE_DEAD, names, args)
                )
                moved += count
                if chunk or not count:
                    break
        return moved

    async def purge_dead(self, queue: str) -> int:
        names = self.keys_of(queue).all
        count = await self._patiently(lambda: self.client.redis.zcard(names[6]))
        await self._patiently(lambda: self.client.redis.unlink(names[6], names[7]))
        return int(count)

    async def purge(self, queue: str) -> int:
        """Drop everything that waits; returns how many tasks that were."""
        dropped, left = 0, 1
        while left:
            count, left = await self._patiently(
                lambda: self.client.run(scripts.PURGE, self.keys_of(queue).all, (CHUNK,))
            )
            dropped += count
        return dropped

    async def pause(self, queue: str) -> None:
        await self._patiently(lambda: self.client.redis.hset(self.keys_of(queue).control, "paused", 1))

    async def resume(self, queue: str) -> None:
        names = self.keys_of(queue)
        await self._patiently(lambda: self.client.redis.hdel(names.control, "paused"))
        await self._patiently(lambda: self.client.redis.rpush(names.wake, 1))
        await self._patiently(lambda: self.client.redis.pexpire(names.wake, 60_000))

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete everything that belongs to these queues, results included."""
        for queue in queues:
            names = self.keys_of(queue)
            await self._patiently(lambda names=names: self.client.redis.unlink(*names.all))
            found: list[bytes] = []
            async for key in self.client.redis.scan_iter(match=_literal(names.result("")) + "*", count=CHUNK):
                found.append(key)
                if len(found) >= CHUNK:
                    await self.client.redis.unlink(*found)
                    found.clear()
            if found:
                await self.client.redis.unlink(*found)
            await self._patiently(lambda queue=queue: self.client.redis.srem(self.fleet.queues, queue))
            self._known.discard(queue)

    # The fleet.

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        """Tell the worker of that name to stop claiming; it reports `drained` when it is empty."""
        await self._patiently(lambda: self.client.redis.set(self.fleet.cordon(name), 1, px=int(ttl_seconds * 1000)))
        await self._patiently(lambda: self.client.redis.publish(self.fleet.control_channel, f"cordon {name}"))

    async def uncordon(self, name: str) -> None:
        await self._patiently(lambda: self.client.redis.delete(self.fleet.cordon(name)))
        await self._patiently(lambda: self.client.redis.publish(self.fleet.control_channel, f"cordon {name}"))

    def activity(self) -> AsyncIterator[str]:
        """The names of queues that go from empty to not empty, as it happens; survives lost connections."""
        return self.listen(self.fleet.activity)

    async def listen(self, *channels: str) -> AsyncIterator[str]:
        """Messages on `channels`, for ever. An empty string says that messages may have been missed: look yourself."""
        failures = 0
        while True:
            try:
                async with self.client.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(*channels)
                    failures = 0
                    yield ""
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=30.0)
                        if message is not None:
                            yield message["data"].decode()
            except (redis_errors.RedisError, OSError) as error:
                with contextlib.suppress(redis_errors.RedisError, OSError):
                    await self.client.dropped(error)
                failures += 1
                await asyncio.sleep(connection.backoff_seconds(failures))

    async def _patiently(self, operation: Any) -> Any:
        return await self.client.patiently(lambda _attempt: operation())


def _literal(text: str) -> str:
    """`text` as a glob pattern that matches itself."""
    return "".join(f"\\{c}" if c in "*?[]^-\\" else c for c in text)
