"""What the control loops of one Redis, prefix and login share: the reader, the listener, and the cordons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from taskfleet.protocol.figures import Horizons
from taskfleet.redis.broker import RedisBroker

from .decision_notes import DecisionNotes
from .listener import AnnouncingBroker, QueueListener
from .port import Look
from .reader import QueuesReader, ReadableBroker
from .sampling import Reading


class CordoningBroker(Protocol):
    """The writes of scaling."""

    async def cordon(self, name: str, *, ttl_seconds: float) -> None: ...

    async def uncordon(self, name: str) -> None: ...


class ScalingBroker(ReadableBroker, AnnouncingBroker, CordoningBroker, Protocol):
    """The methods of `taskfleet.redis.broker.RedisBroker` that scaling uses."""


class SharedRedis:
    """The port `ScalingRedis` over one broker. `heard(queue)` is called for announced work.

    `writer` is what writes, when that is not the broker itself: one that asks whether this process may. With
    `recording`, a broker for that, decisions are kept there.
    """

    def __init__(
        self,
        subject: str,
        broker: ScalingBroker,
        heard: Callable[[str], None],
        *,
        seconds: float = 10.0,
        writer: CordoningBroker | None = None,
        recording: RedisBroker | None = None,
    ) -> None:
        self._notes = None if recording is None else DecisionNotes(subject, recording)
        self._writer = writer or broker
        self.cordons = 0
        """Workers that were told to drain."""
        self.listener = QueueListener(subject, broker, heard)
        self.reader = QueuesReader(broker, self.listener, seconds=seconds)

    @property
    def notice(self) -> str:
        return self.listener.notice

    @property
    def decisions_recorded(self) -> int:
        """Decisions that were kept."""
        return 0 if self._notes is None else self._notes.written

    @property
    def decisions_lost(self) -> int:
        """Decisions that were worth a record and have none."""
        return 0 if self._notes is None else self._notes.lost

    def next_poll(self, now: float, interval: float) -> float:
        return self.reader.next_poll(now, interval)

    async def read(self, horizons: Mapping[str, Horizons], *, urgent: bool = False, workers: bool = True) -> Reading:
        return await self.reader.read(horizons, urgent=urgent, workers=workers)

    async def cordon(self, name: str, *, ttl_seconds: float) -> None:
        await self._writer.cordon(name, ttl_seconds=ttl_seconds)
        self.cordons += 1

    async def uncordon(self, name: str) -> None:
        await self._writer.uncordon(name)

    def note(self, scaler: str, look: Look) -> None:
        if self._notes is not None:
            self._notes.note(scaler, look)

    async def close(self) -> None:
        """End the reader, the listener and what records. The broker is its owner's to close."""
        if self._notes is not None:
            await self._notes.close()
        await self.listener.close()
        await self.reader.close()
