"""`spec.schedules` in Redis: what is wanted, what is there, and how the difference is made good.

A schedule of the resource has its owner in its record: namespace, name and uid of the TaskQueue. Schedules of others,
of Python or of another TaskQueue, are never touched. The operator and `taskfleet up` keep them alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import Partition, queue_of, spread
from taskfleet.protocol.schedules import Entry, ScheduleState
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet.scheduling.call import message_of
from taskfleet.scheduling.record import ScheduleSpec
from taskfleet.tasks.namespace import Registry

from .resource.schedule_spec import CronScheduleSpec
from .resource.taskqueue import TaskQueueResource

MAX_PAYLOAD_BYTES = 1_048_576  # the default of workers


@dataclass(frozen=True, slots=True)
class Owner:
    """The TaskQueue of a schedule. One that is made again under its name has the schedules of its predecessor."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}/{self.uid}"

    @classmethod
    def of(cls, queue: TaskQueueResource) -> Owner:
        metadata = queue.metadata
        return cls(metadata.namespace or "default", metadata.name, metadata.uid or "")

    @classmethod
    def of_entry(cls, entry: Entry) -> Owner | None:
        """The owner of a stored schedule; None for one that no resource owns or that cannot be read."""
        try:
            parts = ScheduleSpec.unpack(entry.spec).owner.split("/")
        except SerializationError:
            return None
        return cls(*parts) if len(parts) == 3 else None

    def is_same_place(self, other: Owner | None) -> bool:
        return other is not None and (self.namespace, self.name) == (other.namespace, other.name)


@dataclass(frozen=True, slots=True)
class WantedSchedule:
    """A schedule of the resource, as Redis should have it."""

    name: str
    partition: Partition
    spec: ScheduleSpec

    @property
    def packed(self) -> bytes:
        return self.spec.pack()


@dataclass(frozen=True, slots=True)
class Plan:
    """`foreign` are the names that somebody else has, with whose they are. `own` are all entries of the owner."""

    add: Sequence[WantedSchedule]
    remove: Sequence[Entry]
    foreign: Mapping[str, str]
    own: Sequence[Entry] = ()


def wanted_of(queue: TaskQueueResource, owner: Owner | None = None) -> list[WantedSchedule]:
    """The schedules of a TaskQueue, in the order of the spec. `ConfigurationError` names the field.

    Without an `owner` they belong to the TaskQueue.
    """
    partitions = {one.name: one.partitions for one in queue.spec.queues}
    whose = str(owner or Owner.of(queue))
    still = queue.spec.suspend or queue.spec.scheduler.mode == "Disabled"
    found: list[WantedSchedule] = []
    for number, one in enumerate(queue.spec.schedules):
        try:
            spec = _record(one, whose, paused=still or one.suspend)
        except (ConfigurationError, SerializationError) as error:
            raise ConfigurationError(f"spec.schedules[{number}]: {error}") from None
        found.append(WantedSchedule(one.name, spread(one.queue, partitions.get(one.queue, 1), one.name), spec))
    return found


def _record(one: CronScheduleSpec, owner: str, *, paused: bool) -> ScheduleSpec:
    # The operator does not know the task: the worker that runs it reads the JSON values by the task's annotations.
    call = message_of(one.task, one.args, one.kwargs, Registry())
    _, envelope, delay_ms, _, extras = call.encode(MAX_PAYLOAD_BYTES)
    spec = ScheduleSpec(
        task=one.task,
        envelope=envelope,
        schedule=one.schedule,
        every=None,
        time_zone=one.time_zone,
        policy=one.concurrency_policy,
        deadline_ms=None if one.starting_deadline_seconds is None else one.starting_deadline_seconds * 1000,
        paused=paused,
        delay_ms=delay_ms,
        expires_ms=None,
        extras=extras or Extras(),
        owner=owner,
        jitter_ms=one.jitter_seconds * 1000,
    )
    _ = spec.timing.identity  # its errors name the field
    return spec


def plan_of(owner: Owner, wanted: Iterable[WantedSchedule], there: Iterable[Entry]) -> Plan:
    """What to add, and what to remove. A schedule that is already as wanted needs nothing.

    One that should tick and has no next tick is added again: another program has taken the tick away, or spoilt it.
    """
    by_name = {one.name: one for one in wanted}
    foreign: dict[str, str] = {}
    in_place: dict[str, Entry] = {}
    remove: list[Entry] = []
    own: list[Entry] = []
    for entry in there:
        found, one = Owner.of_entry(entry), by_name.get(entry.name)
        if not owner.is_same_place(found):
            if one is not None:
                foreign[entry.name] = f"TaskQueue {found.namespace}/{found.name}" if found else "no TaskQueue"
            continue
        own.append(entry)
        if one is None or one.partition != entry.partition:
            remove.append(entry)
        else:
            in_place[entry.name] = entry
    add = [one for one in by_name.values() if one.name not in foreign and not _is_kept(one, in_place.get(one.name))]
    return Plan(add, remove, foreign, own)


def _is_kept(one: WantedSchedule, entry: Entry | None) -> bool:
    return entry is not None and entry.spec == one.packed and (one.spec.paused or entry.tick_ms is not None)


def next_tick(one: WantedSchedule, moved: Entry | None, now_ms: int) -> int:
    """The next tick of a schedule to add; one that moves to another queue keeps its tick if its times are the same."""
    if moved is not None:
        with contextlib.suppress(ConfigurationError, SerializationError):  # another program has written it
            spec = ScheduleSpec.unpack(moved.spec)
            tick = spec.held_ms if moved.tick_ms is None else moved.tick_ms
            if tick is not None and spec.timing.identity == one.spec.timing.identity:
                return tick
    following = one.spec.timing.following(now_ms)
    assert following is not None  # a timing that never ticks is refused
    return following


def orphans(there: Iterable[Entry], namespace: str, alive: Mapping[str, str]) -> dict[Owner, list[Entry]]:
    """Schedules of TaskQueues of this namespace that may be gone. `alive` maps the names of those that are there."""
    found: dict[Owner, list[Entry]] = {}
    for entry in there:
        owner = Owner.of_entry(entry)
        if owner is not None and owner.namespace == namespace and owner.name not in alive:
            found.setdefault(owner, []).append(entry)
    return found


async def stored(broker: RedisBroker, queues: Collection[str], *, everywhere: bool) -> list[Entry]:
    """The schedules in Redis: of these queues, or, since names are unique in the fleet, `everywhere`.

    A queue of others whose schedules cannot be read is their affair.
    """
    found: list[Entry] = []
    for partition in sorted({*await broker.partitions(), *map(Partition, queues)}):
        if everywhere or queue_of(partition) in queues:
            try:
                found += await broker.schedules.entries_of(partition)
            except CallRefusedError:
                if queue_of(partition) in queues:
                    raise
    return found


async def carry_out(broker: RedisBroker, plan: Plan) -> None:
    """Add and remove.

    A schedule that moves stands still in its old queue before it ticks in the new one, and has its tick in its record
    meanwhile: the operator that goes on after this process has died adds it with that tick. So no tick runs twice, and
    none is lost.
    """
    before: dict[str, Entry] = {}
    adding = {one.name for one in plan.add}
    leaving = {(entry.partition, entry.name) for entry in plan.remove}
    # Of several entries of one name, the last that ticks has the tick; those that stand still hold an earlier one.
    for entry in sorted(plan.own, key=lambda entry: entry.tick_ms is not None):
        moves = (entry.partition, entry.name) in leaving and entry.name in adding
        before[entry.name] = await _stop(broker, entry) if moves else entry
    for one in plan.add:
        tick = next_tick(one, before.get(one.name), await broker.schedules.now_ms(one.partition))
        await broker.schedules.add(one.partition, one.name, one.packed, tick)
    for entry in plan.remove:
        await broker.schedules.remove(entry.partition, entry.name)


async def _stop(broker: RedisBroker, entry: Entry) -> Entry:
    """The entry as it stands still, with its tick in its record. One that cannot be read is left as it is."""
    while entry.tick_ms is not None:
        try:
            spec = ScheduleSpec.unpack(entry.spec)
            still = replace(spec, paused=True, held_ms=entry.tick_ms)
            packed = still.pack()
        except (ConfigurationError, SerializationError):
            return entry  # no worker ticks it
        await broker.schedules.add(entry.partition, entry.name, packed, entry.tick_ms)
        found = [one for one in await broker.schedules.entries_of(entry.partition) if one.name == entry.name]
        if not found or found[0].state == entry.state:
            return Entry(entry.partition, entry.name, packed, entry.state, None)
        now = found[0]
        last_ms = entry.tick_ms  # it has ticked between the look and the stop
        with contextlib.suppress(SerializationError):
            last_ms = max(last_ms, ScheduleState.unpack(now.state).last_ms)
        entry = Entry(entry.partition, entry.name, now.spec, now.state, spec.timing.following(last_ms))
    return entry
