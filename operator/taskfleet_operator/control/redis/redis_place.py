"""One Redis with one prefix and one login: its connection, and the TaskQueues that are read through it together."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable

from taskfleet.cancellation import end
from taskfleet.errors import TaskQueueError
from taskfleet.fleet_metrics import RedisServers
from taskfleet.history import Recorder
from taskfleet.protocol.stats import ServerMemory
from taskfleet.redis import urls
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet.supervising import supervise

from ...scaling.shared_redis import SharedRedis
from ..api.kubernetes_api import NotLeadingError
from ..monitoring.loop_figures import RedisFigures
from ..store.cluster_store import Key
from .redis_credentials import RedisCredentials, site_of

_IDENTIFY_SECONDS = 15.0
_MEMORY_SECONDS = 15.0
_PERMIT_SECONDS = 15.0


class RedisPlace:
    """Its TaskQueues by the queues that they serve: an announcement wakes only those that it concerns."""

    def __init__(
        self,
        credentials: RedisCredentials,
        broker: RedisBroker,
        wake: Callable[[Iterable[Key]], None],
        permit: Callable[[str], float],
        identified: Callable[[], None] = lambda: None,
    ) -> None:
        self.credentials = credentials
        self._broker = broker
        self._wake = wake
        self._identified = identified
        self._server = ""
        self._queues: dict[Key, frozenset[str]] = {}
        self._by_queue: dict[str, set[Key]] = defaultdict(set)
        self.redis = SharedRedis(
            f"Redis at {urls.address(credentials.url)}",
            broker,
            self._heard,
            seconds=credentials.connect_timeout + credentials.command_timeout,
            writer=broker.permitted(lambda: permit("a cordon, or the end of one")),
            recording=broker.permitted(lambda: permit("the record of a decision")),
        )
        self.recorder = Recorder(broker.permitted(lambda: permit("figures over time")))
        self._servers: RedisServers | None = None
        self._looking = [
            asyncio.ensure_future(supervise("the look at the server's id", self._identify)),
            asyncio.ensure_future(supervise("the look at the memory of Redis", self._look_at_memory)),
            asyncio.ensure_future(supervise("the recorder of figures over time", self._record)),
        ]

    @property
    def marks(self) -> set[str]:
        """What tells this place: two places with one mark in common have the same keys."""
        database, prefix = urls.parse(self.credentials.url).database, self.credentials.prefix
        found = {f"{site_of(self.credentials.url)} {prefix}"}
        return found | ({f"{self._server}/{database} {prefix}"} if self._server else set())

    async def _identify(self) -> None:
        """Follow which server answers: it may have several addresses, and after a failover it is another one."""
        while True:
            try:
                server = await self._broker.server_id()
            except CallRefusedError:
                return  # our user may not ask; the address has to do
            except (TaskQueueError, OSError):
                server = self._server
            if server != self._server:
                self._server = server
                self._identified()
            await asyncio.sleep(_IDENTIFY_SECONDS)

    async def _record(self) -> None:
        """Record figures over time, while this process may write and no other one records."""
        while True:
            with contextlib.suppress(NotLeadingError):
                await self.recorder.run()
            await asyncio.sleep(_PERMIT_SECONDS)

    async def _look_at_memory(self) -> None:
        """Follow whether Redis answers, and how full it is."""
        address, servers = urls.address(self.credentials.url), list[ServerMemory]()
        while True:
            reachable = True
            try:
                servers = await self._broker.memory()
            except CallRefusedError:
                servers = []  # it answers, and our user may not ask
            except (TaskQueueError, OSError):
                reachable = False
            self._servers = RedisServers(address, reachable, servers if reachable else ())
            await asyncio.sleep(_MEMORY_SECONDS)

    @property
    def used(self) -> bool:
        return bool(self._queues)

    def serve(self, key: Key, queues: Iterable[str]) -> None:
        """This TaskQueue serves these queues, and no others any more."""
        self.leave(key)
        self._queues[key] = frozenset(queues)
        for name in self._queues[key]:
            self._by_queue[name].add(key)

    def leave(self, key: Key) -> None:
        for name in self._queues.pop(key, frozenset()):
            self._by_queue[name].discard(key)
            if not self._by_queue[name]:
                del self._by_queue[name]

    async def close(self) -> None:
        await end(self._looking)
        await self.redis.close()
        await self._broker.close()

    @property
    def figures(self) -> RedisFigures:
        reader, listener = self.redis.reader, self.redis.listener
        return RedisFigures(
            reads=reader.reads,
            failures=reader.failures,
            skipped=reader.skipped,
            read_seconds=reader.read_seconds,
            read_seconds_total=reader.read_seconds_total,
            cordons=self.redis.cordons,
            listener_restarts=listener.restarts,
            listening=not listener.notice,
            dead=urls.address(self.credentials.url) if listener.dead else "",
            servers=self._servers,
            decisions_recorded=self.redis.decisions_recorded,
            decisions_lost=self.redis.decisions_lost,
        )

    def _heard(self, queue: str) -> None:
        # An empty name says that announcements may have been missed.
        self._wake(list(self._by_queue.get(queue, ()) if queue else self._queues))
