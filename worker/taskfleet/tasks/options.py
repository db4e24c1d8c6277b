"""What can be set on a task: by its decorator, its class, or one call. All durations are seconds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from taskfleet import checks, queue_names
from taskfleet.checks import OptionError, checked, or_none
from taskfleet.errors import ConfigurationError
from taskfleet.handles import TaskHandle
from taskfleet.retry import DEFAULT_RETRY, Retry

Executor = Literal["async", "thread", "process"]
UniqueMode = Literal["keep_existing", "replace", "debounce"]
EXECUTORS: tuple[Executor, ...] = get_args(Executor)
UNIQUE_MODES: tuple[UniqueMode, ...] = get_args(UniqueMode)
KeyFunction: TypeAlias = Callable[..., str]  # a key from the call's arguments
Duration: TypeAlias = float | timedelta
ExceptionTypes: TypeAlias = type[BaseException] | Collection[type[BaseException]]

_LONGEST_WINDOW_MS = 3_600_000


class BatchTaskOptions(TypedDict, total=False):
    """What `@queue.batch_task(…)` takes; the defaults are those of `TaskOptions`. Durations: seconds or timedeltas."""

    name: str | None
    queue: str
    max_retries: int
    timeout: Duration | None
    retry: Retry
    max_age: Duration | None
    never_retry: ExceptionTypes
    always_retry: ExceptionTypes
    result_ttl: Duration | None
    expires: Duration | None
    delay: Duration
    unique_key: str | KeyFunction | None
    unique_mode: UniqueMode
    limit_key: str | KeyFunction | None
    fair_key: str | KeyFunction | None


class FunctionTaskOptions(BatchTaskOptions, total=False):
    """What `@queue.task(…)` takes."""

    executor: Executor


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

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TaskOptions:
        """Checked options of a decorator; `ConfigurationError` names the one that is wrong."""
        checks.known_names("task option {} is not known", given, ["name", *TASK_CHECKS])
        return cls(**checked(TASK_CHECKS, given))


class SetByCall(TypedDict, total=False):
    """What `task.options(…)` takes. Durations are seconds or timedeltas; `eta` has a time zone."""

    queue: str | None
    delay: Duration
    eta: datetime | None
    expires: Duration | None
    max_retries: int | None
    timeout: Duration | None
    result_ttl: Duration | None
    retry: Retry | None
    max_age: Duration | None
    unique_key: str | None
    unique_mode: UniqueMode | None
    limit_key: str | None
    fair_key: str | None
    after: Sequence[TaskHandle[Any]]
    wait_for_room: Duration


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

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> CallOptions:
        """Checked options of one call; `ConfigurationError` names the one that is wrong."""
        checks.known_names("option {} is not known", given, _CALL_CHECKS)
        return cls(**checked(_CALL_CHECKS, given))._consistent()

    def settled(self) -> CallOptions:
        """The same, checked: for options that were not made by `of`."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        eta = given.pop("eta")
        if eta is not None:
            eta = checks.moment("eta", eta) if isinstance(eta, datetime) else checks.seconds("eta", eta)
        return CallOptions(eta=eta, **checked(_CALL_CHECKS, given))._consistent()

    def _consistent(self) -> CallOptions:
        if self.delay and self.eta is not None:
            raise OptionError("delay and eta both say when it becomes ready; keep one")
        return self


NO_OPTIONS = CallOptions()


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """`size` items at most, gathered for `window` seconds at most."""

    size: int
    window: float

    @classmethod
    def of(cls, name: str, size: int, window_ms: float | timedelta) -> BatchOptions:
        """Checked, of the batch task `name`: 1 to 100,000 items, and milliseconds (or a timedelta) up to an hour."""
        where = f"batch task {name!r}: "
        checks.whole(f"{where}size", size, least=1, most=100_000)
        window = checks.seconds_in(window_ms)
        if window is not None and isinstance(window_ms, timedelta):
            window *= 1000
        if window is None or not 0 <= window <= _LONGEST_WINDOW_MS:
            problem = "is negative" if window is not None and window < 0 else "is not valid"
            raise ConfigurationError(
                f"{where}window_ms={checks.shown(window_ms)} {problem}; "
                f"expected milliseconds (or a timedelta), 0 to {_LONGEST_WINDOW_MS}"
            )
        return cls(size, window / 1000)


def _handles(name: str, value: object) -> tuple[TaskHandle[Any], ...]:
    found = checks.several(name, value, "handles")
    for each in found:
        if not isinstance(each, TaskHandle):
            raise OptionError(
                f"{name}={checks.shown(value)} is no list of handles: it holds {checks.a_thing(each)}; "
                "give what enqueue returned, such as after=[handle]"
            )
    return tuple(found)


_retry = checks.instance(Retry, "Retry.fixed(…), Retry.linear(…) or Retry.exponential(…)")
_retries = partial(checks.whole, most=1_000_000_000)
_key = or_none(checks.key_or_function)

TASK_CHECKS: dict[str, checks.Check] = {
    "queue": queue_names.check,
    "max_retries": _retries,
    "timeout": or_none(checks.positive_seconds),
    "retry": _retry,
    "max_age": or_none(checks.seconds),
    "never_retry": checks.exception_types,
    "always_retry": checks.exception_types,
    "executor": checks.choice(EXECUTORS),
    "result_ttl": or_none(checks.seconds),
    "expires": or_none(checks.positive_seconds),
    "delay": checks.seconds,
    "unique_key": _key,
    "unique_mode": checks.choice(UNIQUE_MODES),
    "limit_key": _key,
    "fair_key": _key,
}
_call_key = or_none(checks.key)
_CALL_CHECKS: dict[str, checks.Check] = {
    **{
        name: or_none(TASK_CHECKS[name])
        for name in ("queue", "expires", "max_retries", "timeout", "result_ttl", "retry", "max_age", "unique_mode")
    },
    "delay": checks.seconds,
    "eta": or_none(checks.moment),
    "unique_key": _call_key,
    "limit_key": _call_key,
    "fair_key": _call_key,
    "after": _handles,
    "wait_for_room": checks.seconds,
}
