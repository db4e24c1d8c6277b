"""Wakeups: an idle worker waits on a list in each partition of its queues, which notifies it of tasks."""

from __future__ import annotations

import asyncio

from redis import exceptions as redis_exceptions

from taskfleet.backoff import backoff_seconds
from taskfleet.cancellation import end
from taskfleet.protocol.claim import StepReply
from taskfleet.protocol.partitions import Partition
from taskfleet.runtime.claiming.dispatcher import Dispatcher
from taskfleet.runtime.claiming.outage import Outage
from taskfleet.runtime.claiming.receiver import Receiver
from taskfleet.runtime.claiming.step_calls import StepCalls
from taskfleet.runtime.claiming.turns import Turns
from taskfleet.runtime.claiming.unheard import UnheardClaims
from taskfleet.runtime.state.run_context import RunContext
from taskfleet.runtime.state.selection import Selection
from taskfleet.supervising import supervise

_LOOK_AGAIN_SECONDS = 2.0  # the longest time that an idle worker waits without checking
_MOST = 8  # partitions with a separate connection each; further partitions share one


class Listeners:
    """Waits for notifications while the worker has room and no partition is known to have tasks.

    With slots to spare, a claim is sent along and runs in Redis right after the notification. The last slots are not
    used in this way: if another task filled them in the meantime, the claimed task would be kept from other workers.
    """

    def __init__(
        self,
        calls: StepCalls,
        context: RunContext,
        selection: Selection,
        turns: Turns,
        receiver: Receiver,
        unheard: UnheardClaims,
        outage: Outage,
        dispatcher: Dispatcher,
        wanted: asyncio.Event,
    ) -> None:
        self._calls = calls
        self._context = context
        self._selection = selection
        self._turns = turns
        self._receiver = receiver
        self._unheard = unheard
        self._outage = outage
        self._dispatcher = dispatcher
        self._wanted = wanted
        self._hungry = asyncio.Event()
        self._tasks: dict[Partition | None, asyncio.Task[None]] = {}  # `None`: the task for all partitions
        self._one_by_one = True

    def start(self) -> None:
        """Listen to all partitions that the worker serves."""
        partitions = self._selection.names
        self._one_by_one = self._context.broker.one_slot_only or len(partitions) <= _MOST
        if self._one_by_one:
            for partition in partitions:
                self._listen_to(partition)
        else:
            self._tasks[None] = self._context.spawn(supervise("waiting for work", self._listen_to_all))

    def add(self, partition: Partition) -> None:
        """Listen to one more partition."""
        if self._one_by_one:
            self._listen_to(partition)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return set(self._tasks.values())

    def wait_for_calls(self) -> None:
        """Start to wait: there is room, and no partition is known to have tasks."""
        self._hungry.set()

    def rest(self) -> None:
        """Stop waiting, since the worker claims by itself."""
        self._hungry.clear()

    @property
    def claiming(self) -> bool:
        """Whether any claim has been sent along."""
        return any(lock.locked() for lock in self._unheard.locks.values())

    async def take_back(self) -> None:
        """Cancel the claims that have been sent along: there is no room for them, or the worker drains."""
        sent = [
            partition for partition, lock in self._unheard.locks.items() if lock.locked() and partition in self._tasks
        ]
        await end({self._tasks.pop(partition) for partition in sent})
        for partition in sent:
            self._listen_to(partition)

    def _listen_to(self, partition: Partition) -> None:
        listening = supervise(f"waiting for work in {partition}", lambda: self._listen(partition))
        self._tasks[partition] = self._context.spawn(listening)

    async def _listen(self, partition: Partition) -> None:
        broker = self._context.broker
        while True:
            await self._hungry.wait()
            spare = self._turns.room() // (2 * len(self._tasks))
            try:
                if spare:
                    await self._claim_when_called(partition, spare)
                elif await broker.wait_for_work([partition], _LOOK_AGAIN_SECONDS) is None:
                    self._selection.make_hot(partition)
                elif not await self._accept(partition):
                    continue
                self._tell()
            except (redis_exceptions.RedisError, OSError) as error:
                await self._failed(error)

    async def _claim_when_called(self, partition: Partition, slots: int) -> None:
        def take(reply: StepReply) -> None:
            self._receiver.take(partition, reply)
            self._dispatcher.start()

        async with self._unheard.lock(partition):
            try:
                await self._calls.step_when_called(partition, slots, _LOOK_AGAIN_SECONDS, take)
            except BaseException as error:
                self._unheard.call_failed(partition, slots, error)
                raise

    async def _listen_to_all(self) -> None:
        """Wait on many partitions with one connection. A notification only names the partition."""
        broker = self._context.broker
        while True:
            await self._hungry.wait()
            try:
                partition = await broker.wait_for_work(self._selection.names, _LOOK_AGAIN_SECONDS)
                if partition is None:
                    for occupied in await broker.occupied(self._selection.names):
                        self._selection.make_hot(occupied)
                elif not await self._accept(Partition(partition)):
                    continue
                self._tell()
            except (redis_exceptions.RedisError, OSError) as error:
                await self._failed(error)

    async def _accept(self, partition: Partition) -> bool:
        """Whether the worker accepts the notification. If it has filled up in the meantime, another worker gets it."""
        if not self._hungry.is_set() and self._turns.room() == 0:
            await self._context.broker.call_another(partition)
            return False
        self._selection.make_hot(partition)
        return True

    def _tell(self) -> None:
        # The worker claims first, and then tells when to wait again.
        self._hungry.clear()
        self._wanted.set()

    async def _failed(self, error: Exception) -> None:
        await self._outage.drop_connection(error)
        await asyncio.sleep(backoff_seconds(max(self._outage.failures, 1)))
        self._selection.all_hot()
        self._wanted.set()
