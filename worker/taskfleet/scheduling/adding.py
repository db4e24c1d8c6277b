"""Add, remove and list schedules."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from taskfleet import queue_names
from taskfleet.engine.broker import RedisBroker
from taskfleet.engine.schedules import Entry
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.scheduling.call import ScheduledTask, message_of
from taskfleet.scheduling.record import Schedule, Spec, check_name, check_policy, deadline_ms, identity_of
from taskfleet.tasks import Registry

logger = logging.getLogger("taskfleet.scheduler")


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule that has been checked and can be added."""

    name: str
    queue: str
    spec: Spec


def check(
    registry: Registry,
    *,
    name: str,
    task: ScheduledTask,
    schedule: str | None,
    every: float | timedelta | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    queue: str | None,
    time_zone: str | None,
    starting_deadline_seconds: float | None,
    concurrency_policy: str,
    paused: bool,
    max_payload_bytes: int,
) -> NewSchedule:
    """Everything that can be wrong is found here, before Redis is asked; see `TaskQueue.add_schedule`."""
    check_name(name)
    if every is not None and time_zone is not None:
        raise ConfigurationError(f"time_zone={time_zone!r} has no use with every=, which counts from the epoch")
    if isinstance(args, str):
        raise ConfigurationError(f"args={args!r} is not a list of arguments")
    call = message_of(task, args, kwargs, registry)
    _, envelope, _, _ = call.encode(max_payload_bytes)
    spec = Spec(
        task=call.task.name,
        envelope=envelope,
        schedule=schedule,
        every=every.total_seconds() if isinstance(every, timedelta) else every,
        time_zone=time_zone or "UTC",
        policy=check_policy(concurrency_policy),
        deadline_ms=deadline_ms(starting_deadline_seconds),
        paused=paused,
    )
    _ = spec.timing  # an expression or a zone that is wrong is an error now
    return NewSchedule(name, queue_names.validate(queue if queue is not None else call.queue), spec)


async def add(broker: RedisBroker, new: NewSchedule) -> Schedule:
    """Add it, or replace the one of that name, in whichever queue that was."""
    store = broker.schedules
    packed = new.spec.pack()
    moved = await _remove(broker, new.name, keep=new.queue)
    if moved is not None and moved.tick_ms is not None and identity_of(moved.spec) == new.spec.timing.identity:
        next_ms: int | None = moved.tick_ms
    else:
        next_ms = new.spec.timing.following(await store.now_ms(new.queue))
    assert next_ms is not None  # a timing that never ticks is refused when it is made
    tick_ms = await store.add(new.queue, new.name, packed, next_ms)
    for entry in await store.entries_of(new.queue):
        if entry.name == new.name:
            return Schedule.of_entry(entry)
    # Removed by somebody else since: what was added is still the answer.
    return Schedule.of_entry(Entry(new.queue, new.name, packed, b"", tick_ms))


async def remove(broker: RedisBroker, name: str) -> bool:
    """Remove it from whichever queue it is in; returns whether there was one."""
    return await _remove(broker, name) is not None


async def _remove(broker: RedisBroker, name: str, *, keep: str | None = None) -> Entry | None:
    found: Entry | None = None
    for queue in await broker.queues():
        if queue != keep:
            found = await broker.schedules.remove(queue, name) or found
    return found


async def listing(broker: RedisBroker) -> list[Schedule]:
    """All schedules by name. One that a newer version has written is left out, with a warning."""
    schedules: list[Schedule] = []
    for entry in await broker.schedules.entries():
        try:
            schedules.append(Schedule.of_entry(entry))
        except SerializationError as error:
            logger.warning("schedule %r of queue %r: %s", entry.name, entry.queue, error)
    return sorted(schedules, key=lambda schedule: (schedule.name, schedule.queue))
