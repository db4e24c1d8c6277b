"""The stored record of a schedule."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast, get_args

import msgpack

from taskfleet import checks
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.protocol import unpacking
from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.schedules import Entry, ScheduleState, decoding
from taskfleet.scheduling.schedule import ConcurrencyPolicy, Schedule
from taskfleet.scheduling.timing import Timing, timing_of

_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9_:.\-]{1,255}")


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """The arguments of `add_schedule`, and the options of the task that apply to each enqueue.

    `envelope` is the encoded task, `extras` its unique, limit and fair key: the same at each tick. `owner` is the name
    of the TaskQueue resource that keeps the schedule, "" for one that was added from Python; each tick's task becomes
    ready after a random delay of up to `jitter_ms`. `held_ms` is the next tick of one that stands still while it moves
    to another queue.
    """

    task: str
    envelope: bytes
    schedule: str | None
    every: float | None
    time_zone: str
    policy: ConcurrencyPolicy
    deadline_ms: int | None
    paused: bool
    delay_ms: int
    expires_ms: int | None
    extras: Extras
    owner: str = ""
    jitter_ms: int = 0
    held_ms: int | None = None

    @property
    def timing(self) -> Timing:
        return _timing(self.schedule, self.every, self.time_zone)

    def pack(self) -> bytes:
        """[1, revision, timing identity, policy, envelope, paused, deadline_ms or -1, schedule, every, zone, task,
        delay_ms, expires_ms or -1, keys], then [owner, jitter_ms] if there is either, then [held_ms] if there is one.

        The brokers read the first six (`SpecHead`). The revision is a digest, so the same spec has the same revision
        everywhere.
        """
        rest = [
            self.timing.identity, self.policy, self.envelope, int(self.paused),
            -1 if self.deadline_ms is None else self.deadline_ms,
            self.schedule or "", float(self.every or 0), self.time_zone, self.task, self.delay_ms,
            -1 if self.expires_ms is None else self.expires_ms, self.extras.key_letters(),
        ]  # fmt: skip
        # A scheduler that does not know the next fields reads those before them.
        if self.owner or self.jitter_ms or self.held_ms is not None:
            rest += [self.owner, self.jitter_ms]
        if self.held_ms is not None:
            rest.append(self.held_ms)
        revision = hashlib.blake2b(_pack(rest), digest_size=8).hexdigest()
        return _pack([_VERSION, revision, *rest])

    @classmethod
    def unpack(cls, packed: bytes) -> ScheduleSpec:
        """Decode a packed spec. Errors: `SerializationError` for a spec of another version, or of another program."""
        fields = _fields(packed)
        owner, jitter = fields[14:16] if len(fields) >= 16 else (b"", 0)
        _, _, _, policy, envelope, paused, deadline, *rest = fields[:14]
        schedule, every, zone, task, delay, expires, letters = rest
        with decoding():
            return cls(
                task=task.decode(),
                envelope=bytes(memoryview(envelope)),
                schedule=schedule.decode() or None,
                every=float(every) if every else None,
                time_zone=zone.decode(),
                policy=check_policy(policy.decode()),
                deadline_ms=_ms_or_none(deadline),
                paused=bool(paused),
                delay_ms=_ms_or_none(delay) or 0,
                expires_ms=_ms_or_none(expires),
                extras=Extras.of_key_letters({key.decode(): value.decode() for key, value in letters.items()}),
                owner=owner.decode(),
                jitter_ms=_ms_or_none(jitter) or 0,
                held_ms=_ms_or_none(fields[16]) if len(fields) > 16 else None,
            )


def schedule_of(entry: Entry) -> Schedule:
    """The schedule of a stored entry. Errors: `SerializationError` for an entry of another version."""
    spec, state = ScheduleSpec.unpack(entry.spec), ScheduleState.unpack(entry.state)
    return Schedule(
        name=entry.name,
        schedule=spec.schedule,
        every=spec.every,
        time_zone=spec.time_zone,
        task=spec.task,
        queue=queue_of(entry.partition),
        concurrency_policy=spec.policy,
        starting_deadline_seconds=None if spec.deadline_ms is None else spec.deadline_ms / 1000,
        paused=spec.paused,
        next_at=_time(entry.tick_ms),
        last_at=_time(state.last_ms or None),
        last_task_id=state.task_id or None,
        fired_total=state.fired,
        skipped_total=state.skipped,
        dropped_total=state.dropped,
    )


def check_name(name: str) -> str:
    """Return `name`, or raise `ConfigurationError`."""
    # A caller without a type checker may pass any value.
    if not isinstance(name, str) or not _NAME.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"schedule name {checks.shown(name)} is not valid: "
            "use 1 to 255 characters of letters, digits, '-', '_', ':' and '.'"
        )
    return name


def check_policy(policy: str) -> ConcurrencyPolicy:
    found: ConcurrencyPolicy = checks.choice(get_args(ConcurrencyPolicy))("concurrency_policy", policy)
    return found


def deadline_ms(deadline: float | timedelta | None) -> int | None:
    """The starting deadline in whole milliseconds. Errors: `ConfigurationError`."""
    if deadline is None:
        return None
    seconds = checks.seconds_in(deadline)
    if seconds is None or not 0 < seconds <= checks.MOST_SECONDS:
        raise ConfigurationError(
            f"starting_deadline_seconds={checks.shown(deadline)} is not valid; expected a positive number of seconds"
        )
    return max(1, round(seconds * 1000))


@functools.lru_cache(maxsize=4096)
def _timing(schedule: str | None, every: float | None, time_zone: str) -> Timing:
    return timing_of(schedule, every, time_zone)


def _pack(parts: list[Any]) -> bytes:
    # Lua's messagepack has one type for text and bytes.
    return cast("bytes", msgpack.packb(parts, use_bin_type=False))


def _fields(packed: bytes) -> list[Any]:
    try:
        # Two containers: the list itself, and the map of its keys.
        fields = unpacking.record(packed, most_bytes=len(packed), containers=2)
        version, count = fields[0], len(fields)
    except (SerializationError, IndexError) as error:
        raise SerializationError(f"the schedule cannot be decoded: {error}") from None
    if version != _VERSION or count < 14:
        raise SerializationError(f"the schedule has version {version!r:.50}; this program reads version {_VERSION}")
    return fields


def _ms_or_none(ms: Any) -> int | None:
    return None if int(ms) < 0 else int(ms)


def _time(ms: int | None) -> datetime | None:
    with decoding():
        return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
