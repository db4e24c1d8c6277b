"""The shared part of all operations on queues in Redis: a client, the names of the keys, and calls with retries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from taskfleet import foreign
from taskfleet.errors import TaskQueueError
from taskfleet.protocol.clock import RedisClock
from taskfleet.protocol.due import START
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.redis import keys, urls
from taskfleet.redis.calls import schedules as schedule_calls
from taskfleet.redis.calls.call import ScriptCall
from taskfleet.redis.connection import RedisClient
from taskfleet.redis.introducing import Introduction
from taskfleet.redis.permission import asked_before_each_command
from taskfleet.redis.redis_errors import CallRefusedError, connection_error, is_about_one_call

R = TypeVar("R")


class QueueCalls:
    """Calls on the queues of one Redis, and the list of their partitions.

    `call` retries failures that may be temporary, and raises `BrokerConnectionError`. `call_once` raises the errors of
    Redis as they are. `seal` seals the records that are made here.
    """

    def __init__(self, client: RedisClient, prefix: str, seal: Seal = PLAIN) -> None:
        self.client = client
        self.seal = seal
        self.prefix = prefix
        self.fleet = keys.FleetKeys(prefix)
        self.introduction = Introduction(client, self.fleet)
        self.skipped = foreign.Skipped()  # records in Redis that Taskfleet cannot have written
        self.clock = RedisClock(self.now_ms)
        self._keys: dict[str, keys.QueueKeys] = {}
        self._permit: Callable[[], float] | None = None

    def keys_of(self, partition: str) -> keys.QueueKeys:
        names = self._keys.get(partition)
        if names is None:
            names = self._keys[partition] = keys.of_partition(self.prefix, partition)
        return names

    async def call(self, call: ScriptCall[R], call_bytes: int = 0) -> R:
        """The reply to one call of a script. `call_bytes` is its approximate size, if it is large."""
        script, script_keys, args, read = call
        reply = await self.patiently(lambda: self.client.run(script, script_keys, args), call_bytes, script_keys)
        return read(reply)

    async def call_once(self, call: ScriptCall[R]) -> R:
        script, script_keys, args, read = call
        return read(await self.client.run(script, script_keys, args))

    async def call_many(self, many: Sequence[ScriptCall[R]]) -> list[R]:
        replies: list[R] = await self.patiently(lambda: self.call_many_once(many))
        return replies

    async def call_many_once(self, many: Sequence[ScriptCall[R]]) -> list[R]:
        """The replies to several calls of one script, in one round trip for each server."""
        if not many:
            return []
        replies = await self.client.run_many(many[0].script, [(call.keys, call.args) for call in many])
        return [call.read(reply) for call, reply in zip(many, replies, strict=True)]

    async def call_each(self, many: Sequence[ScriptCall[R]]) -> list[R | TaskQueueError]:
        """As `call_many`. A call that Redis refuses for its keys, or answers with no reply of the script, has its error
        in place of a reply.
        """

        async def once() -> list[Any]:
            found = await self.client.run_each(many[0].script, [(call.keys, call.args) for call in many])
            for reply in found:
                if isinstance(reply, Exception) and not is_about_one_call(reply):
                    raise reply
            return found

        replies: list[Any] = await self.patiently(once) if many else []
        return [
            await self._explained(connection_error(self.client.url, reply), call.keys)
            if isinstance(reply, Exception)
            else self._read(call, reply)
            for call, reply in zip(many, replies, strict=True)
        ]

    def _read(self, call: ScriptCall[R], reply: Any) -> R | TaskQueueError:
        try:
            return call.read(reply)
        except foreign.ForeignError as error:
            return CallRefusedError(f"Redis at {urls.address(self.client.url)} answers a script with {error}")

    async def patiently(self, operation: Any, call_bytes: int = 0, of_call: Sequence[str] = ()) -> Any:
        """The result of `await operation()`, with retries of failures that may be temporary.

        `of_call` are its keys, as far as they are known.
        """

        async def attempt(_number: int) -> Any:
            if self._permit is None:
                return await operation()
            async with asyncio.timeout(self._permit()):
                with asked_before_each_command(self._permit):
                    return await operation()

        try:
            return await self.client.patiently(attempt, call_bytes)
        except CallRefusedError as error:
            raise await self._explained(error, of_call) from None

    async def _explained(self, error: TaskQueueError, of_call: Sequence[str]) -> TaskQueueError:
        """This error, with the name of the key that it is about."""
        if "WRONGTYPE" in str(error):
            from taskfleet.redis import misfits  # only here: such an error is rare

            if told := await misfits.explain(self.client, self.prefix, of_call):
                return CallRefusedError(f"Redis at {urls.address(self.client.url)}: {told}")
        return error

    async def now_ms(self, partition: Partition) -> int:
        """The time in ms by the clock of the Redis server that has the partition."""
        reply = await self.call(schedule_calls.due(self.keys_of(partition), limit=0, past=START))
        return reply.now_ms

    async def queues(self) -> list[str]:
        """The names of all queues that have ever had a task."""
        return sorted({queue_of(name) for name in await self.partitions()})

    async def partitions(self, queue: str | None = None) -> list[Partition]:
        """All partitions in Redis, or those of `queue`, which include at least its first."""
        found = keys.partitions_among(
            await self.patiently(lambda: self.client.redis.smembers(self.fleet.queues)), self.skipped
        )
        if queue is not None:
            found = {partition for partition in found if queue_of(partition) == queue} | {Partition(queue)}
        return sorted(found)

    async def listen(self, *channels: str) -> AsyncIterator[str]:
        """Messages on `channels`, without end. An empty string says that messages may have been missed."""
        async for message in self.client.listen(*channels):
            yield foreign.text(message)
