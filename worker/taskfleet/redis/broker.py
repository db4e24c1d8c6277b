"""The broker that keeps its queues in Redis: its operations, and the connections that they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskfleet import foreign
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.redis.connecting import connect
from taskfleet.redis.connection import RedisClient
from taskfleet.redis.connection_options import ConnectionOptions, Timeouts
from taskfleet.redis.enqueueing import Enqueueing
from taskfleet.redis.inspecting import Inspecting
from taskfleet.redis.letters import Letters
from taskfleet.redis.noting import Noting
from taskfleet.redis.operations import Operations
from taskfleet.redis.renewal import RedisRenewer
from taskfleet.redis.schedules import ScheduleStore
from taskfleet.redis.sockets import descriptor_of
from taskfleet.redis.stepping import Stepping
from taskfleet.redis.views import Views

if TYPE_CHECKING:
    from taskfleet.redis.tls import Tls


class RedisBroker(Enqueueing, Stepping, Views, Inspecting, Letters, Noting, Operations):
    """All operations on queues. Nothing connects before the first call.

    Errors: `BrokerConnectionError` when Redis does not answer after a few tries.
    """

    def __init__(self, client: RedisClient, prefix: str, seal: Seal = PLAIN) -> None:
        super().__init__(client, prefix, seal)
        self.schedules = ScheduleStore(self)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "taskfleet",
        pool_size: int = 10,
        connect_timeout: float = 5.0,
        command_timeout: float = 5.0,
        login: Mapping[str, Any] | None = None,
        sentinel_login: Mapping[str, Any] | None = None,
        tls: Tls | None = None,
    ) -> RedisBroker:
        """Timeouts in seconds; `login` and `sentinel_login`: a username and password, or a credential_provider."""
        options = ConnectionOptions(
            url,
            pool_size=pool_size,
            timeouts=Timeouts(connect_timeout, command_timeout),
            login=login or {},
            sentinel_login=sentinel_login or {},
            tls=tls,
        )
        return cls(connect(options), prefix)

    @property
    def url(self) -> str:
        return self.client.url

    @property
    def one_slot_only(self) -> bool:
        return self.client.one_slot_only

    def another(self) -> RedisBroker:
        """A broker on the same queues with separate connections, for another thread or event loop."""
        return RedisBroker(self.client.another(), self.prefix, self.seal)

    def permitted(self, permit: Callable[[], float]) -> RedisBroker:
        """A broker on the same queues and connections that calls `permit` before each attempt of each call, and again
        when its command is about to leave.

        It raises when there must not be one, and else returns the seconds in which the attempt has to end.
        """
        broker = RedisBroker(self.client, self.prefix, self.seal)
        broker._permit = permit
        return broker

    def renewer(self) -> RedisRenewer:
        """The calls of a worker's lease thread, with separate connections."""
        return RedisRenewer(self.client.new_sync(), self.prefix)

    async def ping(self) -> None:
        await self.patiently(lambda: self.client.redis.ping())

    async def close(self) -> None:
        await self.introduction.close()
        await self.client.close()

    def abandon(self) -> None:
        self.introduction.abandon()
        self.client.abandon()

    def descriptors(self) -> list[int]:
        """The file descriptors of all open sockets."""
        return [number for each in self.client.connections() if (number := descriptor_of(each)) >= 0]

    async def dropped(self, error: BaseException) -> None:
        """React to a failed call: close connections to a server that is no longer the right one."""
        await self.client.dropped(error)

    async def purge_keys(self, queues: Sequence[str]) -> None:
        """Delete all keys of these queues, results included."""
        await super().purge_keys(queues)
        self.list_again()

    def control(self) -> AsyncIterator[str]:
        """Messages to workers: `cancel ID`, `cordon NAME`; an empty string means that messages may have been missed."""
        return self.listen(self.fleet.control_channel)

    async def endings(self, partition: Partition) -> AsyncIterator[tuple[str, bytes | None]]:
        """The ids of tasks whose end was announced, some with their result record; an empty string as in `control`."""
        names = self.keys_of(partition)
        async for message in self.client.listen(names.done_channel, names.ended_channel):
            task_id, told, record = message.partition(b"\0")
            yield foreign.text(task_id), record if told else None

    def activity(self) -> AsyncIterator[str]:
        """The names of queues that change from empty to not empty; an empty string as in `control`."""
        return self.listen(self.fleet.activity)
