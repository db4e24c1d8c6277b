"""A broker in Redis that remembers the tasks that this process has enqueued, for tests."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence

from taskfleet.memory.store import Accepted
from taskfleet.protocol.item import Item
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.sealing import PLAIN, Seal
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.connection import RedisClient

_REMEMBERED = 10_000  # enqueued tasks


class RecordingBroker(RedisBroker):
    """`accepted` has the tasks that it and the brokers made from it have enqueued, the last 10,000."""

    def __init__(self, client: RedisClient, prefix: str, seal: Seal = PLAIN) -> None:
        super().__init__(client, prefix, seal)
        self.accepted: deque[Accepted] = deque(maxlen=_REMEMBERED)

    def another(self) -> RecordingBroker:
        broker = RecordingBroker(self.client.another(), self.prefix, self.seal)
        broker.accepted = self.accepted
        return broker

    async def enqueue(
        self, partition: Partition, items: Sequence[Item], *, max_length: int = 0, room_for: int = 0
    ) -> dict[int, str]:
        holders = await super().enqueue(partition, items, max_length=max_length, room_for=room_for)
        now = int(time.time() * 1000)
        for position, (task_id, envelope, delay_ms, eta_ms, _) in enumerate(items):
            if position not in holders:
                due = eta_ms or (now + delay_ms if delay_ms > 0 else 0)
                self.accepted.append(Accepted(partition, task_id, envelope, due, now))
        return holders
