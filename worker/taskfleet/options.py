"""What can be set on a queue and on a task. All durations are seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from taskfleet import queue_names
from taskfleet.errors import ConfigurationError
from taskfleet.retry import DEFAULT_RETRY, Retry

if TYPE_CHECKING:
    from taskfleet.handles import TaskHandle

Executor = Literal["async", "thread", "process"]
UniqueMode = Literal["keep_existing", "replace", "debounce"]
UNIQUE_MODES: tuple[UniqueMode, ...] = get_args(UniqueMode)
KeyFunction: TypeAlias = Callable[..., str]  # a key from the call's arguments


@dataclass(frozen=True, slots=True)
class DeadLetterOptions:
    """How much of what failed for good is kept: by count and by age."""

    max_length: int = 10_000
    ttl_seconds: float = 1_209_600.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: at most `burst` tasks start at once, and `tasks_per_second` in the long run."""

    tasks_per_second: float
    burst: int

    def __post_init__(self) -> None:
        if self.tasks_per_second <= 0 or self.burst < 1:
            raise ConfigurationError("rate_limit: tasks_per_second must be positive and burst at least 1")


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """One queue: the fields of the manifest's `spec.queues[]`, in snake case.

    `concurrency` is how many of its tasks run at once in the whole fleet, `concurrency_per_key` how many of one
    `limit_key`; `rate_limit` and `rate_limit_per_key` limit how often they start. `partitions` spreads the queue over
    as many hash slots of a Redis Cluster.
    """

    name: str
    priority: int = 0
    weight: int = 1
    lease_seconds: float = 30.0
    max_deliveries: int = 5
    max_length: int = 0
    partitions: int = 1
    rate_limit: RateLimit | None = None
    rate_limit_per_key: RateLimit | None = None
    dead_letter: DeadLetterOptions = DeadLetterOptions()
    concurrency: int | None = None
    concurrency_per_key: int | None = None

    def __post_init__(self) -> None:
        queue_names.validate(self.name)
        for name, least in (
            ("weight", 1),
            ("lease_seconds", 1),
            ("max_deliveries", 1),
            ("max_length", 0),
            ("partitions", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigurationError(f"queue {self.name!r}: {name} must be at least {least}")

        for name in ("concurrency", "concurrency_per_key"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigurationError(f"queue {self.name!r}: {name} must be at least 1, or None for no limit")

    @classmethod
    def of(cls, value: QueueOptions | Mapping[str, Any] | str) -> QueueOptions:
        """Accept the dataclass, a dict of the same names, or a bare name."""
        if isinstance(value, QueueOptions):
            return value
        if isinstance(value, str):
            return cls(value)
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ConfigurationError(f"queue options: unknown key {unknown[0]!r}; expected one of {sorted(known)}")
        data = dict(value)
        try:
            if isinstance(letters := data.get("dead_letter"), Mapping):
                data["dead_letter"] = DeadLetterOptions(**letters)
            for name in ("rate_limit", "rate_limit_per_key"):
                if isinstance(limit := data.get(name), Mapping):
                    data[name] = RateLimit(**limit)
            return cls(**data)
        except TypeError as error:
            raise ConfigurationError(f"queue options {dict(value)!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How one task runs, as its decorator or class says."""

    queue: str = queue_names.DEFAULT
    max_retries: int = 3
    timeout: float | None = 300.0
    retry: Retry = DEFAULT_RETRY
    max_age: float | None = None
    never_retry: tuple[type[BaseException], ...] = ()
    always_retry: tuple[type[BaseException], ...] = ()
    executor: Executor = "async"
    result_ttl: float | None = None
    expires: float | None = None
    delay: float = 0.0
    unique_key: str | KeyFunction | None = None
    unique_mode: UniqueMode = "keep_existing"
    limit_key: str | KeyFunction | None = None
    fair_key: str | KeyFunction | None = None


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What one enqueue sets for itself; `None` leaves it to the task."""

    queue: str | None = None
    delay: float = 0.0
    eta: float | None = None
    expires: float | None = None
    max_retries: int | None = None
    timeout: float | None = None
    result_ttl: float | None = None
    retry: Retry | None = None
    max_age: float | None = None
    unique_key: str | None = None
    unique_mode: UniqueMode | None = None
    limit_key: str | None = None
    fair_key: str | None = None
    after: tuple[TaskHandle[Any], ...] = ()
    wait_for_room: float = 0.0
