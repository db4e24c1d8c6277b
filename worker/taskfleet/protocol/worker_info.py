"""A worker as its readers see it: the record of its last heartbeat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from taskfleet import foreign
from taskfleet.protocol.heartbeat import FIELDS
from taskfleet.protocol.partitions import queue_of

_MOST_SLOTS = 1_000_000
_MOST_PID = 2**32
_MOST_QUEUES = 10_000


_CLAIMING = ("starting", "running")  # states of a worker that claims tasks, or is about to


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process, as its last heartbeat describes it.

    `name` is the pod's name in a cluster; `worker_id` is `name/process number`. `state` is starting, running,
    draining, cordoned (claims nothing and finishes its tasks) or drained (cordoned and empty).
    """

    worker_id: str
    name: str
    pid: int
    slots: int
    busy: int
    queues: tuple[str, ...]
    state: str
    heartbeat_age_seconds: float
    idle_seconds: float
    started_ms: int
    version: str
    stuck: int = 0  # slots that are held by handlers which cannot be stopped
    oldest_run_seconds: float = 0.0  # how long its oldest run had taken at the heartbeat; 0 without a run
    sealed_only: bool = False  # whether it refuses tasks and schedules that no key of its application has sealed
    host: str = ""  # the name of its machine or pod; empty for a worker of an earlier version
    clock_skew_seconds: float = 0.0  # how far its clock is ahead of that of Redis; a slow heartbeat looks behind

    @classmethod
    def of_values(
        cls, worker_id: bytes, values: Sequence[bytes | None], heartbeat_ms: float, now_ms: float
    ) -> WorkerInfo:
        """The record of the values of `FIELDS`; missing values have defaults. Errors: `ForeignError` for invalid
        values."""
        fields = {field: value for field, value in zip(FIELDS, values, strict=True) if value is not None}
        who = foreign.name(worker_id, "worker id")

        def figure(field: str, most: float) -> int:
            return foreign.whole(fields[field], field, most=most) if field in fields else 0

        def short(field: str, default: str) -> str:
            return foreign.name(fields[field], field) if fields.get(field) else default

        beat = foreign.figure(heartbeat_ms, "its time", most=foreign.LAST_MS)
        idle_since = figure("idle_since_ms", foreign.LAST_MS)
        queues = foreign.text(fields.get("queues", b"")).split(",", _MOST_QUEUES)[:_MOST_QUEUES]
        return cls(
            worker_id=who,
            name=short("name", who.rsplit("/", 1)[0]),
            pid=figure("pid", _MOST_PID),
            slots=figure("slots", _MOST_SLOTS),
            busy=figure("busy", _MOST_SLOTS),
            queues=tuple(queue for queue in queues if 0 < len(queue) <= foreign.NAME_LIMIT),
            state=short("state", "starting"),
            heartbeat_age_seconds=max(0.0, (now_ms - beat) / 1000),
            idle_seconds=max(0.0, (now_ms - idle_since) / 1000) if idle_since else 0.0,
            started_ms=figure("started_ms", foreign.LAST_MS),
            version=short("version", ""),
            stuck=figure("stuck", _MOST_SLOTS),
            oldest_run_seconds=figure("oldest_run_ms", foreign.LAST_MS) / 1000,
            sealed_only=bool(figure("sealed_only", 1)),
            host=short("host", ""),
            clock_skew_seconds=(clock - beat) / 1000 if (clock := figure("clock_ms", foreign.LAST_MS)) else 0.0,
        )


def serving(workers: Iterable[WorkerInfo]) -> dict[str, int]:
    """By queue, the number of these worker processes that claim from it."""
    found: Counter[str] = Counter()
    for one in workers:
        if one.state in _CLAIMING:
            found.update({queue_of(name) for name in one.queues})
    return dict(found)
