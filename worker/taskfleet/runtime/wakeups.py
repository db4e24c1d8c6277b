"""How an idle worker learns of work: each partition of its queues has a list that calls for a worker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from redis import exceptions as redis_exceptions

from taskfleet.cancellation import end
from taskfleet.redis import connection
from taskfleet.supervising import supervise

if TYPE_CHECKING:
    from taskfleet.runtime.worker import Worker

_LOOK_AGAIN_SECONDS = 2.0  # the longest that an idle worker waits without looking itself
_MOST = 8  # partitions with a connection each to wait on; more of them share one


class Listeners:
    """Waits for calls on behalf of a worker: while it has room, and nothing is known to wait.

    With slots to spare a claim is sent along and follows the call inside Redis. The last slots are not given away like
    that: what has filled them in the meantime would keep the claimed task from another worker.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._hungry = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._claims: dict[str, asyncio.Lock] = {}
        self._one_by_one = True

    def start(self) -> None:
        """Listen to all partitions that the worker serves."""
        worker = self._worker
        names = worker.selection.names
        self._one_by_one = worker.queue.broker.one_slot_only or len(names) <= _MOST
        if self._one_by_one:
            for name in names:
                self._listen_to(name)
        else:
            self._tasks[""] = worker.spawn(supervise("waiting for work", self._listen_to_all))

    def add(self, name: str) -> None:
        """Listen to one more partition."""
        if self._one_by_one:
            self._listen_to(name)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return set(self._tasks.values())

    def wait_for_calls(self) -> None:
        """There is room, and nothing to claim is known."""
        self._hungry.set()

    def rest(self) -> None:
        """The worker claims by itself."""
        self._hungry.clear()

    def claim(self, name: str) -> asyncio.Lock:
        """Held while a claim of ours from that partition may be under way."""
        return self._claims.setdefault(name, asyncio.Lock())

    @property
    def claiming(self) -> bool:
        """Whether any claim has been sent along."""
        return any(lock.locked() for lock in self._claims.values())

    async def take_back(self) -> None:
        """Take back the claims that have been sent along: there is no room for them, or no work is wanted."""
        names = [name for name, lock in self._claims.items() if lock.locked() and name in self._tasks]
        await end({self._tasks.pop(name) for name in names})
        for name in names:
            self._listen_to(name)

    def _listen_to(self, name: str) -> None:
        self._tasks[name] = self._worker.spawn(supervise(f"waiting for work in {name}", lambda: self._listen(name)))

    async def _listen(self, name: str) -> None:
        worker = self._worker
        broker = worker.queue.broker
        while True:
            await self._hungry.wait()
            spare = worker.room() // (2 * len(self._tasks))
            try:
                if spare:
                    await self._claim_when_called(name, spare)
                elif await broker.wait_for_work([name], _LOOK_AGAIN_SECONDS) is None:
                    worker.selection.make_hot(name)
                elif not await self._accept(name):
                    continue
                self._tell()
            except (redis_exceptions.RedisError, OSError) as error:
                await self._failed(error)

    async def _claim_when_called(self, name: str, slots: int) -> None:
        worker = self._worker
        async with self.claim(name):
            try:
                reply = await worker.queue.broker.step_when_called(
                    name, worker.queue.options_of(name), worker.incarnation, slots, _LOOK_AGAIN_SECONDS
                )
            except BaseException as error:
                worker.claim_failed(name, slots, error)
                raise
            worker.take(name, reply)
        worker.start_claimed()

    async def _listen_to_all(self) -> None:
        """Many partitions on one connection, which only tells which of them calls."""
        worker = self._worker
        while True:
            await self._hungry.wait()
            try:
                name = await worker.queue.broker.wait_for_work(worker.selection.names, _LOOK_AGAIN_SECONDS)
                if name is None:
                    worker.selection.all_hot()
                elif not await self._accept(name):
                    continue
                self._tell()
            except (redis_exceptions.RedisError, OSError) as error:
                await self._failed(error)

    async def _accept(self, name: str) -> bool:
        """Whether the worker takes the call; filled up in the meantime, it passes it on."""
        worker = self._worker
        if not self._hungry.is_set() and worker.room() == 0:
            await worker.queue.broker.call_another(name)
            return False
        worker.selection.make_hot(name)
        return True

    def _tell(self) -> None:
        # First the claim, then waiting again: until the worker says so.
        self._hungry.clear()
        self._worker.look()

    async def _failed(self, error: Exception) -> None:
        worker = self._worker
        with contextlib.suppress(redis_exceptions.RedisError, OSError):
            await worker.queue.broker.dropped(error)
        await asyncio.sleep(connection.backoff_seconds(max(worker.failures, 1)))
        worker.selection.all_hot()
        worker.look()
