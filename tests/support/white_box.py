"""Reach into a queue, in Redis or in memory, for states that otherwise take a broken worker or a lost reply."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from taskfleet import QueueOptions, TaskQueue
from taskfleet.memory.store import Scheduled
from taskfleet.protocol.claim import Claim
from taskfleet.protocol.outcome import Outcome
from taskfleet.testing import InMemoryBroker

SPOILT_MS = 1_000_000_000_000  # when a spoilt schedule was due


async def give_away(queue: TaskQueue, task_id: str) -> None:
    """Give the lease of a task to another owner, as a takeover does."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.owners[task_id] = ("another", 2)
    else:
        await _redis(queue).hset(_keys(queue).owner, task_id, "another:2")


async def give(queue: TaskQueue, owners: Mapping[str, str]) -> None:
    """Write the owners of tasks, `incarnation:delivery` by id, also for tasks that there are not."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            for task_id, token in owners.items():
                incarnation, _, delivery = token.rpartition(":")
                model.owners[task_id] = (incarnation, int(delivery))
    else:
        await _redis(queue).hset(_keys(queue).owner, mapping=owners)


async def lengthen_lease(queue: TaskQueue, task_id: str, seconds: float) -> None:
    """Let the lease of a running task end this long from now."""
    end = await now_ms(queue) + seconds * 1000
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.leases.add(task_id, end)
    else:
        await _redis(queue).zadd(_keys(queue).lease, {task_id: end})


async def reports(queue: TaskQueue) -> int:
    """The number of stored reports of progress."""
    if isinstance(queue.broker, InMemoryBroker):
        return len(queue.broker.store.models["default"].reports)
    return int(await _redis(queue).hlen(_keys(queue).progress))


async def mark_cancelled(queue: TaskQueue, task_id: str) -> None:
    """Set the mark of a cancellation without announcing it."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.cancelling.add(task_id)
    else:
        await _redis(queue).hset(_keys(queue).cancel, task_id, 1)


async def cancel_marks(queue: TaskQueue) -> set[str]:
    """The running tasks that are to be cancelled."""
    if isinstance(queue.broker, InMemoryBroker):
        return set(queue.broker.store.models["default"].cancelling)
    return {task_id.decode() for task_id in await _redis(queue).hkeys(_keys(queue).cancel)}


async def awaited(queue: TaskQueue) -> int:
    """The number of tasks whose end is announced to a waiting caller."""
    if isinstance(queue.broker, InMemoryBroker):
        return len(queue.broker.store.models["default"].announced)
    return int(await _redis(queue).scard(_keys(queue).awaited))


async def overwrite(queue: TaskQueue, task_id: str, blob: bytes) -> None:
    """Replace the stored bytes of a task."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.tasks[task_id] = blob
    else:
        await _redis(queue).hset(_keys(queue).task, task_id, blob)


async def ready(queue: TaskQueue, name: str = "default") -> list[tuple[str, bytes]]:
    """(id, stored task) of the tasks that are ready in a partition, in order."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue(name) as model:
            return [(task_id, model.tasks[task_id]) for task_id in model.ready if task_id in model.tasks]
    listed, task, *_ = _keys(queue, name)
    ids = await _redis(queue).lrange(listed, 0, -1)
    blobs = await _redis(queue).hmget(task, ids) if ids else []
    return [(i.decode(), blob) for i, blob in zip(ids, blobs, strict=True) if blob is not None]


async def unfinished(queue: TaskQueue) -> list[bytes]:
    """All stored tasks."""
    if isinstance(queue.broker, InMemoryBroker):
        return list(queue.broker.store.models["default"].tasks.values())
    return list((await _redis(queue).hgetall(_keys(queue).task)).values())


async def vanish(queue: TaskQueue, task_id: str) -> None:
    """Remove a task, as a loss of data does, or its end in an old worker that knows no unique followers."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            del model.tasks[task_id]
            model.tags.pop(task_id, None)
            model.leases.remove(task_id)
            model.owners.pop(task_id, None)
    else:
        names = _keys(queue)
        for name in (names.task, names.owner, names.tag):
            await _redis(queue).hdel(name, task_id)
        await _redis(queue).zrem(names.lease, task_id)


async def make_due(queue: TaskQueue, task_id: str) -> None:
    """Make a delayed task due."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.delayed.add(task_id, 1)
    else:
        assert await _redis(queue).zadd(_keys(queue).delayed, {task_id: 1}, xx=True, ch=True)


async def due_times(queue: TaskQueue) -> list[float]:
    """When the delayed tasks are due, in seconds by the clock of the queue."""
    if isinstance(queue.broker, InMemoryBroker):
        return [score / 1000 for _, score in queue.broker.store.models["default"].delayed.items()]
    entries = await _redis(queue).zrange(_keys(queue).delayed, 0, -1, withscores=True)
    return [score / 1000 for _, score in entries]


async def end_lease(queue: TaskQueue, task_id: str) -> None:
    """Expire the lease of a running task."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            model.leases.add(task_id, 1)
    else:
        assert await _redis(queue).zadd(_keys(queue).lease, {task_id: 1}, xx=True, ch=True)


async def end_leases(queue: TaskQueue) -> None:
    """Expire the leases of all running tasks, as time does for a worker that is gone."""
    if isinstance(queue.broker, InMemoryBroker):
        with queue.broker.store.queue("default") as model:
            for task_id, _ in [*model.leases.items()]:
                model.leases.add(task_id, 1)
    else:
        lease = _keys(queue).lease
        for task_id in await _redis(queue).zrange(lease, 0, -1):
            await _redis(queue).zadd(lease, {task_id: 1}, xx=True)


async def left_behind(queue: TaskQueue, *names: str) -> dict[str, set[str]]:
    """The structures of workflows and keys that are not empty, by partition."""
    left: dict[str, set[str]] = {}
    for name in names or ("default",):
        if isinstance(queue.broker, InMemoryBroker):
            with queue.broker.store.queue(name) as model:
                parts = {
                    "tag": model.tags, "unique": {**model.unique, **model.followers}, "blocked": model.blocked,
                    "gather": model.gathering, "input": model.inputs, "outbox": model.outbox,
                }  # fmt: skip
                found = {part for part, kept in parts.items() if len(kept)}
        else:
            keys = _keys(queue, name)
            kinds = ("tag", "unique", "blocked", "gather", "input", "outbox")
            found = {part for part in kinds if await _redis(queue).exists(getattr(keys, part))}
        if found:
            left[name] = found
    return left


async def calls(queue: TaskQueue) -> int:
    """The number of wake-up calls that no worker has taken yet."""
    if isinstance(queue.broker, InMemoryBroker):
        return queue.broker.store.models["default"].calls
    return int(await _redis(queue).llen(_keys(queue).wake))


async def now_ms(queue: TaskQueue) -> float:
    """The clock of the queue, milliseconds."""
    if isinstance(queue.broker, InMemoryBroker):
        return queue.broker.store.now()
    seconds, micros = await _redis(queue).time()
    return float(seconds * 1000 + micros / 1000)


async def spoilt_schedules(queue: TaskQueue, count: int) -> None:
    """Store `count` schedules that are due and cannot be read."""
    names = [f"spoilt-{n:04}" for n in range(count)]
    if isinstance(queue.broker, InMemoryBroker):
        there = queue.broker.store.schedules_of("default")
        there.update((name, Scheduled(b"\xc1", SPOILT_MS, b"")) for name in names)
        queue.broker.store.known.add("default")
    else:
        specs, ticks, _ = _keys(queue).schedules
        await _redis(queue).hset(specs, mapping=dict.fromkeys(names, b"\xc1"))
        await _redis(queue).zadd(ticks, dict.fromkeys(names, SPOILT_MS))


async def move_tick(queue: TaskQueue, schedule: str, ms: int, name: str) -> None:
    """Move the next tick of a schedule in a partition."""
    if isinstance(queue.broker, InMemoryBroker):
        one = queue.broker.store.schedules_of(name)[schedule]
        assert one.tick_ms is not None
        one.tick_ms += ms
    else:
        _, ticks, _ = _keys(queue, name).schedules
        assert await _redis(queue).zincrby(ticks, ms, schedule) > 0


async def spec_of(queue: TaskQueue, schedule: str) -> bytes:
    """The stored bytes of a schedule."""
    if isinstance(queue.broker, InMemoryBroker):
        return queue.broker.store.schedules_of("default")[schedule].spec
    spec: bytes = await _redis(queue).hget(_keys(queue).schedules.specs, schedule)
    return spec


async def set_spec(queue: TaskQueue, schedule: str, spec: bytes) -> None:
    """Replace the stored bytes of a schedule."""
    if isinstance(queue.broker, InMemoryBroker):
        queue.broker.store.schedules_of("default")[schedule].spec = spec
    else:
        await _redis(queue).hset(_keys(queue).schedules.specs, schedule, spec)


async def keeps_schedules(queue: TaskQueue) -> bool:
    """Whether anything is stored of any schedule."""
    if isinstance(queue.broker, InMemoryBroker):
        return bool(queue.broker.store.schedules_of("default"))
    return bool(await _redis(queue).exists(*_keys(queue).schedules))


def _redis(queue: TaskQueue) -> Any:
    return queue.broker.client.redis  # type: ignore[attr-defined]


def _keys(queue: TaskQueue, name: str = "default") -> Any:
    return queue.broker.keys_of(name)  # type: ignore[attr-defined]


def options_of(lease_seconds: float, **options: Any) -> QueueOptions:
    """Options with a lease that is shorter than `QueueOptions` allows."""
    made = replace(QueueOptions("default"), **options)
    object.__setattr__(made, "lease_seconds", lease_seconds)
    return made


class RawWorker:
    """Calls the broker as a worker does, so that a test can act as a broken worker.

    Its leases outlast every pause of a busy machine: `end_lease` ends one.
    """

    def __init__(self, queue: TaskQueue, owner: str, *, lease_ms: int = 60_000, max_deliveries: int = 5) -> None:
        self.queue, self.owner, self.lease_ms = queue, owner, lease_ms
        self.options = options_of(lease_ms / 1000, max_deliveries=max_deliveries)

    async def step(self, slots: int = 0, outcomes: list[Outcome] | None = None) -> tuple[int, dict[str, Claim]]:
        """(stale outcomes, claims by id)"""
        reply = await self.queue.broker.step("default", self.options, self.owner, slots, outcomes or [])
        return reply.stale, {claim[1]: claim for claim in reply.claims}

    async def renew(self, *held: tuple[str, int]) -> list[str]:
        """Renew leases; the ids of those that this worker has lost."""

        def renew() -> list[str]:
            renewer = self.queue.sessions.new_renewer()
            lost, _, _ = renewer.renew("default", self.owner, self.lease_ms, 0, held)
            renewer.close()
            return lost

        return await asyncio.to_thread(renew)  # a thread of its own, as the renewer expects
