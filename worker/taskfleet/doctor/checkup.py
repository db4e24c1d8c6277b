"""One checkup of the queues in a Redis, and the repair of what it has found. Workers may run meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from taskfleet.doctor import environment
from taskfleet.doctor.catalogue import finding_of
from taskfleet.doctor.finding import UNSET_TICK, Diagnosis
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.schedules import Entry
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.doctor import calls, forsaken, keyspace, servers
from taskfleet.redis.doctor.examining import Examination, examine
from taskfleet.redis.doctor.fault import Fault
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet.scheduling.record import ScheduleSpec
from taskfleet.version import __version__

Outcome = Literal["repaired", "gone", "stays"]

_KEYSPACE = {"queue-unlisted", "queue-name-invalid", "key-stays"}
_SCHEDULE = {"tick-broken", UNSET_TICK}


@dataclass
class Checkup:
    """All findings, the errors first."""

    findings: list[Diagnosis] = field(default_factory=list[Diagnosis])

    @property
    def errors(self) -> list[Diagnosis]:
        return [finding for finding in self.findings if finding.severity == "error"]


async def look(
    broker: RedisBroker,
    known: Iterable[str] = (),
    *,
    told: Callable[[str], None] = lambda _text: None,
) -> Checkup:
    """Look at everything, and change nothing. `known` are the queues of the settings; `told` gets what is looked at."""
    told("the servers")
    found = environment.of_servers(await servers.servers(broker))
    told("the names of all keys")
    survey = await keyspace.survey(broker)
    found += map(finding_of, survey.faults)
    readable: list[Partition] = []
    for partition in sorted(survey.partitions):
        told(f"queue {partition}")
        try:
            found += await _of_partition(broker, partition)
        except CallRefusedError as error:
            if "holds a" not in str(error) and "WRONGTYPE" not in str(error):
                raise
            found.append(finding_of(Fault("key-foreign", partition, "key", b"", str(error))))
        else:
            readable.append(partition)
    told("tasks that wait for tasks")
    if len(readable) == len(survey.partitions):
        faults = await forsaken.forsaken(broker, readable)
        found += map(finding_of, faults)
    found += await _around(broker, readable, survey.cordons, known)
    return Checkup(sorted(found, key=lambda each: (each.severity, each.queue, each.code, each.subject)))


async def _of_partition(broker: RedisBroker, partition: Partition) -> list[Diagnosis]:
    examination = await examine(broker, partition)
    faults = [*examination.faults, *await _schedules(broker, partition, examination)]
    return [finding_of(fault) for fault in faults]


async def _schedules(broker: RedisBroker, partition: Partition, examination: Examination) -> list[Fault]:
    """Schedules that cannot be read, and those without a tick that are neither paused nor over."""
    if not await broker.patiently(lambda: broker.client.redis.exists(broker.keys_of(partition).schedules.specs)):
        return []
    faults: list[Fault] = []
    for entry in await broker.schedules.entries_of(partition):
        name = entry.name.encode()
        try:
            spec = ScheduleSpec.unpack(entry.spec)
        except (SerializationError, ConfigurationError) as error:
            faults.append(Fault("schedule-broken", partition, "schedules", name, str(error)))
            continue
        if entry.name in examination.untimed and await _next_tick(broker, entry, spec) and entry.tick_ms is None:
            faults.append(Fault(UNSET_TICK, partition, "schedules", name))
    return faults


async def _next_tick(broker: RedisBroker, entry: Entry, spec: ScheduleSpec) -> int | None:
    """The tick that a schedule without one should have; `None` when it is paused, or over."""
    if spec.paused:
        return None
    return spec.timing.following(await broker.schedules.now_ms(entry.partition))


async def _around(
    broker: RedisBroker, partitions: Sequence[Partition], cordons: Iterable[str], known: Iterable[str]
) -> list[Diagnosis]:
    workers = await broker.workers()
    stats = await broker.stats_many(sorted({queue_of(partition) for partition in partitions}))
    return [
        *environment.of_workers(workers, cordons, __version__),
        *environment.of_queues(stats, workers, known),
    ]


async def repair(broker: RedisBroker, findings: Sequence[Diagnosis]) -> AsyncIterator[tuple[Diagnosis, Outcome]]:
    """Repair what can be repaired. Each invariant is looked at again in the call that repairs it."""
    outcomes: dict[int, Outcome] = {1: "repaired", 0: "gone", -1: "stays"}
    whole: set[tuple[Partition, str, bytes]] = set()
    for partition in sorted({f.fault.partition for f in findings if f.fault is not None and f.fault.part == "whole"}):
        reply = await broker.call(calls.whole(broker.keys_of(partition), partition, repair=True))
        whole |= {(partition, fault.code, fault.member) for fault in reply.faults}
    for finding in findings:
        fault = finding.fault
        if fault is None:
            continue
        if fault.part == "whole":
            yield finding, outcomes[int((fault.partition, fault.code, fault.member) in whole)]
        elif fault.code in _KEYSPACE or fault.part == "queues":
            yield finding, outcomes[await keyspace.mend(broker, fault)]
        elif fault.code in _SCHEDULE:
            yield finding, outcomes[await _set_tick(broker, fault)]
        else:
            yield finding, outcomes[await broker.call(calls.mend(broker.keys_of(fault.partition), fault))]


async def _set_tick(broker: RedisBroker, fault: Fault) -> int:
    """Give a schedule the next tick of its timing."""
    for entry in await broker.schedules.entries_of(fault.partition):
        if entry.name.encode() != fault.member:
            continue
        spec = ScheduleSpec.unpack(entry.spec)
        following = await _next_tick(broker, entry, spec)
        if following is None:
            return 0
        return int(await broker.schedules.change(entry, entry.spec, following))
    return 0
