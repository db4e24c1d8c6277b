"""Adds, removes and lists schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from taskfleet import checks, queue_names, showing
from taskfleet.application import Application
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol.broker import Broker
from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import Partition, spread
from taskfleet.protocol.schedules import Entry, SpecHead
from taskfleet.scheduling.call import ScheduledTask, message_of
from taskfleet.scheduling.record import ScheduleSpec, check_name, check_policy, deadline_ms, schedule_of
from taskfleet.scheduling.schedule import Schedule
from taskfleet.scheduling.timing import timing_of

logger = showing.logger("taskfleet.scheduler")


@dataclass(frozen=True, slots=True)
class NewSchedule:
    """A schedule that has been checked and can be added to a partition of its queue."""

    name: str
    partition: Partition
    spec: ScheduleSpec


def check(
    application: Application,
    *,
    name: str,
    task: ScheduledTask,
    schedule: str | None,
    every: float | timedelta | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    to: str | None,
    time_zone: str | None,
    starting_deadline_seconds: float | timedelta | None,
    concurrency_policy: str,
    paused: bool,
) -> NewSchedule:
    """Check all arguments, before Redis is asked; see `TaskQueue.add_schedule`."""
    check_name(name)
    if every is not None and time_zone is not None:
        raise ConfigurationError(f"time_zone={time_zone!r} has no use with every=, which counts from the epoch")
    # A caller without a type checker may pass any value.
    if not isinstance(args, (list, tuple)):
        raise ConfigurationError(f"args={checks.shown(args)} is not a list of arguments")
    if not isinstance(kwargs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"kwargs={checks.shown(kwargs)} is not a dict of arguments")
    if time_zone is not None:
        checks.text("time_zone", time_zone)
    if schedule is not None:
        checks.text("schedule", schedule)
    checks.flag("paused", paused)
    timing_of(schedule, every, time_zone or "UTC")  # only for the errors that it raises
    call = message_of(task, args, kwargs, application.registry)
    name_of_queue = queue_names.validate(to if to is not None else call.queue)
    _, envelope, delay_ms, _, extras = call.encode(application.max_payload_bytes)
    expires = call.task.options.expires
    spec = ScheduleSpec(
        task=call.task.name,
        # The scheduler signs the tasks of a schedule, so the schedule itself must be signed by its author.
        envelope=application.seal.close("schedule", name_of_queue, name, envelope),
        schedule=schedule,
        every=checks.seconds_in(every),
        time_zone=time_zone or "UTC",
        policy=check_policy(concurrency_policy),
        deadline_ms=deadline_ms(starting_deadline_seconds),
        paused=paused,
        delay_ms=delay_ms,
        expires_ms=None if expires is None else round(expires * 1000),
        extras=extras or Extras(),
    )
    # The tasks of one key share a lock, limits and turns, so all of them are in one partition.
    partitions = application.known_options_of(name_of_queue).partitions
    partition = spread(name_of_queue, partitions, call.spread_key or name)
    return NewSchedule(name, partition, spec)


async def add(broker: Broker, new: NewSchedule) -> Schedule:
    """Add a schedule. It replaces a schedule of the same name in any queue."""
    store = broker.schedules
    packed = new.spec.pack()
    moved = await _remove(broker, new.name, keep=new.partition)
    if (
        moved is not None
        and moved.tick_ms is not None
        and SpecHead.of_packed(moved.spec).timing == new.spec.timing.identity
    ):
        next_ms: int | None = moved.tick_ms
    else:
        next_ms = new.spec.timing.following(await store.now_ms(new.partition))
    assert next_ms is not None  # a timing that never ticks is refused when it is made
    tick_ms = await store.add(new.partition, new.name, packed, next_ms)
    for entry in await store.entries_of(new.partition):
        if entry.name == new.name:
            return schedule_of(entry)
    # Another program has removed it in the meantime.
    return schedule_of(Entry(new.partition, new.name, packed, b"", tick_ms))


async def remove(broker: Broker, name: str) -> bool:
    """Remove a schedule from its queue; returns whether it existed."""
    return await _remove(broker, name) is not None


async def _remove(broker: Broker, name: str, *, keep: Partition | None = None) -> Entry | None:
    found: Entry | None = None
    for partition in await broker.partitions():
        if partition != keep:
            found = await broker.schedules.remove(partition, name) or found
    return found


async def listing(broker: Broker) -> list[Schedule]:
    """All schedules by name. Schedules of a newer version are omitted, with a warning."""
    schedules: list[Schedule] = []
    for entry in await broker.schedules.entries():
        try:
            schedules.append(schedule_of(entry))
        except SerializationError as error:
            logger.warning("schedule %r of queue %r: %s", entry.name, entry.partition, error)
    return sorted(schedules, key=lambda schedule: (schedule.name, schedule.queue))
