"""Reach into a queue, whatever it is kept in, to bring about what otherwise takes a broken worker or a lost reply."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from taskfleet import QueueOptions, TaskQueue
from taskfleet.engine.interface import Claim, Outcome
from taskfleet.testing import InMemoryBroker


async def give_away(queue: TaskQueue, task_id: str) -> None:
    """Leave what a takeover leaves behind: another owner's token."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.owners[task_id] = ("another", 2)
    else:
        await _redis(queue).hset(_keys(queue).owner, task_id, "another:2")


async def mark_cancelled(queue: TaskQueue, task_id: str) -> None:
    """Set the mark of a cancellation without announcing it."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.cancelling.add(task_id)
    else:
        await _redis(queue).hset(_keys(queue).all[11], task_id, 1)


async def cancel_marks(queue: TaskQueue) -> int:
    if isinstance(queue.broker, InMemoryBroker):
        return len(queue.broker.store.models["default"].cancelling)
    return int(await _redis(queue).hlen(_keys(queue).all[11]))


async def awaited(queue: TaskQueue) -> int:
    """How many tasks somebody waits for."""
    if isinstance(queue.broker, InMemoryBroker):
        return len(queue.broker.store.models["default"].announced)
    return int(await _redis(queue).scard(_keys(queue).all[12]))


async def overwrite(queue: TaskQueue, task_id: str, blob: bytes) -> None:
    """Put something else in the place of a stored task."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.tasks[task_id] = blob
    else:
        await _redis(queue).hset(_keys(queue).all[1], task_id, blob)


def _redis(queue: TaskQueue) -> Any:
    return queue.broker.client.redis  # type: ignore[attr-defined]


def _keys(queue: TaskQueue) -> Any:
    return queue.broker.keys_of("default")  # type: ignore[attr-defined]


def options_of(lease_seconds: float, **options: Any) -> QueueOptions:
    """Options with a lease shorter than anybody may ask for."""
    made = replace(QueueOptions("default"), **options)
    object.__setattr__(made, "lease_seconds", lease_seconds)
    return made


class RawWorker:
    """Speaks to the broker as a worker does, so that a test can be a worker that has gone wrong."""

    def __init__(self, queue: TaskQueue, owner: str, *, lease_ms: int = 1000, max_deliveries: int = 5) -> None:
        self.queue, self.owner, self.lease_ms = queue, owner, lease_ms
        self.options = options_of(lease_ms / 1000, max_deliveries=max_deliveries)

    async def step(self, slots: int = 0, outcomes: list[Outcome] | None = None) -> tuple[int, dict[str, Claim]]:
        """(stale outcomes, claims by id)"""
        reply = await self.queue.broker.step("default", self.options, self.owner, slots, outcomes or [])
        return reply.stale, {claim[1]: claim for claim in reply.claims}

    async def renew(self, *held: tuple[str, int]) -> list[str]:
        """The ids that are not ours any more."""

        def renew() -> list[str]:
            renewer = self.queue.new_renewer()
            lost, _ = renewer.renew("default", self.owner, self.lease_ms, 0, held)
            renewer.close()
            return lost

        return await asyncio.to_thread(renew)  # a thread of its own, as the renewer expects
