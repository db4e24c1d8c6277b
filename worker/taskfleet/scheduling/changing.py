"""Pauses and resumes schedules, and runs one now."""

from __future__ import annotations

import dataclasses
import random

from taskfleet import ids
from taskfleet.application import Application
from taskfleet.errors import ConfigurationError, TaskNotFoundError, TaskQueueError
from taskfleet.protocol import envelope
from taskfleet.protocol.broker import Broker
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.schedules import Entry
from taskfleet.scheduling.record import ScheduleSpec

_TRIES = 5  # against other programs that change the same schedule at the same time


async def set_paused(broker: Broker, name: str, *, paused: bool) -> bool:
    """Pause or resume a schedule; returns whether there is one of that name.

    A resumed schedule ticks from now on. Errors: `ConfigurationError` for a schedule that a TaskQueue resource keeps.
    """
    for _ in range(_TRIES):
        entry = await _find(broker, name)
        if entry is None:
            return False
        spec = ScheduleSpec.unpack(entry.spec)
        if spec.owner:
            raise ConfigurationError(
                f"schedule {name!r} is kept by TaskQueue {spec.owner!r}: set spec.schedules[].suspend there"
            )
        next_ms = spec.timing.following(await broker.schedules.now_ms(entry.partition))
        assert next_ms is not None  # a timing that never ticks is refused when it is made
        if spec.paused == paused:
            return True
        changed = dataclasses.replace(spec, paused=paused).pack()
        if await broker.schedules.change(entry, changed, next_ms):
            return True
    raise TaskQueueError(f"schedule {name!r} is being changed by other programs; try again")


async def run_now(application: Application, broker: Broker, name: str) -> tuple[str, Partition]:
    """Enqueue the task of a schedule, beside its ticks; returns the task's id and its partition.

    The task keeps its unique, limit and fair key. If another task keeps that unique key, the id is that task's.
    """
    entry = await _find(broker, name)
    if entry is None:
        raise TaskNotFoundError(f"no schedule is named {name!r}")
    spec, queue = ScheduleSpec.unpack(entry.spec), queue_of(entry.partition)
    call = application.seal.open("schedule", queue, name, spec.envelope)
    call = envelope.expiring(
        call, await broker.schedules.now_ms(entry.partition), spec.expires_ms, application.seal.limit
    )
    task_id = ids.new_id()
    sealed = application.seal.close("task", queue, task_id, call)
    delay_ms = spec.delay_ms + random.randint(0, spec.jitter_ms)
    item = (task_id, sealed, delay_ms, 0, spec.extras if spec.extras.has_keys else None)
    max_length = application.known_options_of(entry.partition).max_length
    holders = await broker.enqueue(entry.partition, [item], max_length=max_length)
    return holders.get(0, task_id), entry.partition


async def _find(broker: Broker, name: str) -> Entry | None:
    return next((entry for entry in await broker.schedules.entries() if entry.name == name), None)
