"""The rules of `/alerts` and the objectives of `/sla`: pure functions of one look.

Each rule compares one figure with one threshold of `Thresholds`, so that an alert can be checked by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.integrations.observing.judgement_reports import AlertReport, ObjectiveReport, UnknownReport
from taskfleet.integrations.observing.machine_reports import ServerReport
from taskfleet.integrations.observing.queue_reports import QueueReport, WorkerReport
from taskfleet.integrations.observing.recent import Window

RULES = {
    "oldest_task": "the head of a queue waits longer than `start_within_seconds`",
    "no_worker": "a queue has work, and no live worker takes it",
    "paused": "a queue is paused and has work",
    "queue_full": "a queue holds `queue_full_ratio` of its `max_length` or more",
    "dead_letters_growing": "in the window, more than `new_dead_letters` tasks became dead letters",
    "stuck_worker": "a worker has slots that are held by handlers which cannot be stopped",
    "redis_memory": "a server uses `redis_memory_ratio` of its `maxmemory` or more",
    "redis_eviction": "a server with a `maxmemory` may delete tasks: its policy is not `noeviction`",
    "redis_unreachable": "Redis does not answer",
    "queue_unreadable": "the keys of a queue cannot be read",
}
_OF_REDIS = ("redis_memory", "redis_eviction")
_OF_WINDOW = ("dead_letters_growing",)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits of the rules and the targets of the objectives.

    `start_within_seconds` and `success_ratio` are a number for all queues, or a dict of numbers by queue, in which
    `"*"` is for all others. A queue without a number has no such rule and no such objective. Errors:
    `ConfigurationError` names the option.
    """

    start_within_seconds: float | Mapping[str, float] = 60.0
    success_ratio: float | Mapping[str, float] = field(default_factory=dict[str, float])
    new_dead_letters: int = 0
    queue_full_ratio: float = 0.9
    redis_memory_ratio: float = 0.9

    def __post_init__(self) -> None:
        _each("start_within_seconds", self.start_within_seconds, checks.positive_seconds)
        _each("success_ratio", self.success_ratio, _ratio)
        checks.whole("new_dead_letters", self.new_dead_letters)
        _ratio("queue_full_ratio", self.queue_full_ratio)
        _ratio("redis_memory_ratio", self.redis_memory_ratio)

    @classmethod
    def of(cls, value: Thresholds | Mapping[str, Any]) -> Thresholds:
        """Accept the dataclass, or a dict of the same names."""
        if isinstance(value, Thresholds):
            return value
        # A caller without a type checker may pass anything.
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"thresholds={checks.shown(value)}: expected Thresholds, or a dict of its names")
        checks.known_names("thresholds: unknown key {}", value, [each.name for each in fields(cls)])
        return cls(**value)


def _ratio(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise checks.OptionError(f"{name}={checks.shown(value)} is no part of a whole; expected more than 0, at most 1")
    return float(value)


def _each(name: str, value: object, check: checks.Check) -> None:
    if isinstance(value, Mapping):
        for queue, one in value.items():
            check(f"{name}[{queue!r}]", one)
    else:
        check(name, value)


def target_of(value: float | Mapping[str, float], queue: str) -> float | None:
    """The number for one queue."""
    return value.get(queue, value.get("*")) if isinstance(value, Mapping) else value


@dataclass(frozen=True, slots=True)
class JudgedFigures:
    """What the rules look at. `servers` is None when they do not tell."""

    queues: Sequence[QueueReport]
    unreadable: Mapping[str, str]
    workers: Sequence[WorkerReport]
    servers: Sequence[ServerReport] | None
    servers_unknown: str | None
    window: Window | None


def alerts(figures: JudgedFigures, thresholds: Thresholds) -> list[AlertReport]:
    """The rules that do not hold, critical first."""
    found = [
        *(alert for queue in figures.queues for alert in _of_queue(queue, figures.window, thresholds)),
        *_of_workers(figures.workers),
        *_of_servers(figures.servers or (), thresholds),
        *(
            _alert("queue_unreadable", f"queue {queue!r} cannot be read: {why}", queue=queue, critical=True)
            for queue, why in figures.unreadable.items()
        ),
    ]
    return sorted(found, key=lambda alert: (alert.severity != "critical", alert.rule, alert.queue or ""))


def unknown(figures: JudgedFigures) -> list[UnknownReport]:
    """The rules that cannot be judged."""
    found: list[UnknownReport] = []
    if figures.servers is None:
        reason = figures.servers_unknown or "Redis does not tell"
        found += [UnknownReport(rule=rule, reason=reason) for rule in _OF_REDIS]
    if figures.window is None:
        reason = "this process has not looked before, so it cannot tell what has changed; ask again in some seconds"
        found += [UnknownReport(rule=rule, reason=reason) for rule in _OF_WINDOW]
    return found


def of_unreachable(error: str) -> tuple[list[AlertReport], list[UnknownReport]]:
    """The alerts and the unknown rules while Redis does not answer."""
    others = [rule for rule in RULES if rule != "redis_unreachable"]
    return (
        [_alert("redis_unreachable", error, critical=True)],
        [UnknownReport(rule=rule, reason="Redis does not answer") for rule in others],
    )


def _of_queue(queue: QueueReport, window: Window | None, thresholds: Thresholds) -> Iterator[AlertReport]:
    name, age = queue.name, queue.oldest_age_seconds
    limit = target_of(thresholds.start_within_seconds, name)
    if age is not None and limit is not None and age > limit:
        yield _alert(
            "oldest_task",
            f"the head of queue {name!r} has been ready for {age:.1f} s, longer than {limit:g} s",
            queue=name, value=age, threshold=limit,
        )  # fmt: skip
    work = queue.ready + queue.in_flight + queue.due
    if work and not queue.workers:
        yield _alert(
            "no_worker",
            f"queue {name!r} has {work} tasks, and no live worker takes it",
            queue=name, value=0, threshold=1, critical=True,
        )  # fmt: skip
    if queue.paused and work:
        yield _alert("paused", f"queue {name!r} is paused and has {work} tasks", queue=name, value=work, threshold=0)
    waiting = queue.ready + queue.delayed + queue.blocked
    if queue.max_length and waiting >= queue.max_length * thresholds.queue_full_ratio:
        yield _alert(
            "queue_full",
            f"queue {name!r} holds {waiting} waiting tasks of at most {queue.max_length}; beyond, tasks are refused",
            queue=name, value=waiting / queue.max_length, threshold=thresholds.queue_full_ratio,
            critical=waiting >= queue.max_length,
        )  # fmt: skip
    growth = window.queues.get(name) if window is not None else None
    if window is not None and growth is not None and growth.failed > thresholds.new_dead_letters:
        yield _alert(
            "dead_letters_growing",
            f"in the last {window.seconds:.0f} s, {growth.failed} tasks of queue {name!r} became dead letters",
            queue=name, value=growth.failed, threshold=thresholds.new_dead_letters,
        )  # fmt: skip


def _of_workers(workers: Sequence[WorkerReport]) -> Iterator[AlertReport]:
    for worker in workers:
        if worker.stuck:
            yield _alert(
                "stuck_worker",
                f"worker {worker.worker_id!r} has {worker.stuck} of {worker.slots} slots held by handlers that it "
                "cannot stop; restart it",
                subject=worker.worker_id, value=worker.stuck, threshold=0, critical=worker.stuck >= worker.slots,
            )  # fmt: skip


def _of_servers(servers: Sequence[ServerReport], thresholds: Thresholds) -> Iterator[AlertReport]:
    for server in servers:
        ratio, limit = server.memory_ratio, thresholds.redis_memory_ratio
        if ratio is not None and ratio >= limit:
            yield _alert(
                "redis_memory",
                f"Redis at {server.address} uses {ratio:.0%} of its maxmemory; at 100% it accepts no tasks",
                subject=server.address, value=ratio, threshold=limit, critical=True,
            )  # fmt: skip
        if server.memory_limit_bytes and server.memory_policy not in (None, "noeviction"):
            yield _alert(
                "redis_eviction",
                f"Redis at {server.address} has maxmemory-policy {server.memory_policy}: with its memory full it "
                "deletes tasks; set noeviction",
                subject=server.address, critical=True,
            )  # fmt: skip


def _alert(
    rule: str,
    message: str,
    *,
    queue: str | None = None,
    subject: str | None = None,
    value: float | None = None,
    threshold: float | None = None,
    critical: bool = False,
) -> AlertReport:
    return AlertReport(
        rule=rule,
        severity="critical" if critical else "warning",
        queue=queue,
        subject=subject,
        value=value,
        threshold=threshold,
        message=message,
    )


def success_ratio(finished: int, failed: int) -> float | None:
    """The part of the ended tasks that became no dead letter. None when none ended."""
    return max(0.0, 1 - failed / finished) if finished > 0 else None


def objectives(figures: JudgedFigures, thresholds: Thresholds) -> list[ObjectiveReport]:
    """The objectives of all queues."""
    found: list[ObjectiveReport] = []
    for queue in figures.queues:
        if (target := target_of(thresholds.start_within_seconds, queue.name)) is not None:
            # Nothing waits, so nothing waits too long.
            waited = queue.oldest_age_seconds or 0.0
            found.append(
                ObjectiveReport(
                    queue=queue.name,
                    objective="start_within_seconds",
                    target=target,
                    value=queue.oldest_age_seconds,
                    met=waited <= target,
                )
            )
        if (target := target_of(thresholds.success_ratio, queue.name)) is not None:
            growth = figures.window.queues.get(queue.name) if figures.window is not None else None
            ratio = success_ratio(growth.finished, growth.failed) if growth is not None else None
            met = None if ratio is None else ratio >= target
            found.append(
                ObjectiveReport(queue=queue.name, objective="success_ratio", target=target, value=ratio, met=met)
            )
    return found


def all_met(found: Sequence[ObjectiveReport]) -> bool | None:
    """False when any is not met; else None when any is not known; else True."""
    if any(each.met is False for each in found):
        return False
    return None if any(each.met is None for each in found) else True
