"""The options of tasks and calls. All durations are seconds.

An option is two lines in this module. One is in a typed dict, which defines where callers may set it, and its type. The
other is in `TaskOptions`: its default, its check, and the key under which a call sends it to the worker.
"""

# ruff: noqa: RUF009 - `_option` returns a dataclass field
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Generic, Literal, Never, TypeAlias, TypedDict, TypeVar, get_args

from taskfleet import checks, queue_names
from taskfleet.checks import OptionError, or_none
from taskfleet.errors import ConfigurationError
from taskfleet.handles import TaskHandle
from taskfleet.protocol import call_settings
from taskfleet.retry import DEFAULT_RETRY, Retry

Executor = Literal["async", "thread", "process"]
UniqueMode = Literal["keep_existing", "replace", "debounce"]
KeyFunction: TypeAlias = Callable[..., str]  # a key from the call's arguments
Duration: TypeAlias = float | timedelta
ExceptionTypes: TypeAlias = type[BaseException] | Collection[type[BaseException]]

T = TypeVar("T")
Default = TypeVar("Default")  # `None` where it leaves an option to the task, `Never` where it does not
Function = TypeVar("Function")  # `KeyFunction` where a key may come from one

_LONGEST_WINDOW_MS = 3_600_000


class _SharedOptions(TypedDict, Generic[Default, Function], total=False):
    """Options of decorators and calls alike."""

    queue: str | Default
    max_retries: int | Default
    timeout: Duration | None
    retry: Retry | Default
    max_age: Duration | None
    result_ttl: Duration | None
    expires: Duration | None
    delay: Duration
    unique_key: str | Function | None
    unique_mode: UniqueMode | Default
    limit_key: str | Function | None
    fair_key: str | Function | None


class CallOptions(_SharedOptions[None, Never], total=False):
    """The options of `task.options(…)`. `None` leaves an option to the task; `eta` has a time zone."""

    eta: datetime | None
    after: Sequence[TaskHandle[Any]]
    wait_for_room: Duration


class BatchTaskOptions(_SharedOptions[Never, KeyFunction], total=False):
    """The options of `@queue.batch_task(…)`, beside the `BatchOptions`."""

    name: str | None
    never_retry: ExceptionTypes
    always_retry: ExceptionTypes


class FunctionTaskOptions(BatchTaskOptions, total=False):
    """The options of `@queue.task(…)`."""

    executor: Executor


@dataclass(frozen=True, slots=True)
class Option:
    """The rules of one option."""

    default: Any
    check: checks.Check
    check_of_call: checks.Check
    setting: str | None  # the key under which a call sends it to the worker: protocol/call_settings.py
    packed: Callable[[Any], Any] | None  # makes the value that is sent, if it differs
    class_attribute: str | None  # of a class task


def _option(
    default: T,
    check: checks.Check,
    *,
    of_call: checks.Check | None = None,
    setting: str | None = None,
    packed: Callable[[Any], Any] | None = None,
    class_attribute: str | None = None,
) -> T:
    """An option with this default. A value of a call has the same check unless `of_call` is given."""
    rules = Option(default, check, of_call or or_none(check), setting, packed, class_attribute)
    return field(default=default, metadata={"option": rules})


def _handles(name: str, value: object) -> tuple[TaskHandle[Any], ...]:
    found = checks.several(name, value, "handles")
    for each in found:
        if not isinstance(each, TaskHandle):
            raise OptionError(
                f"{name}={checks.shown(value)} is no list of handles: it holds {checks.a_thing(each)}; "
                "give what enqueue returned, such as after=[handle]"
            )
    return tuple(found)


_key = partial(_option, None, or_none(checks.key_or_function), of_call=or_none(checks.key))
_positive = or_none(checks.positive_seconds)
_retries = partial(checks.whole, most=1_000_000_000)
_retry = checks.instance(Retry, "Retry.fixed(…), Retry.linear(…) or Retry.exponential(…)")


@dataclass(frozen=True)  # without slots: the options of a call are a copy of its task's, which a dict makes fastest
class TaskOptions:
    """The options of a task, or of one call, which override those of its task."""

    queue: str = _option(queue_names.DEFAULT, queue_names.check)
    max_retries: int = _option(3, _retries, setting=call_settings.MAX_RETRIES, class_attribute="max_retries")
    timeout: float | None = _option(300.0, _positive, setting=call_settings.TIMEOUT, class_attribute="timeout_seconds")
    retry: Retry = _option(DEFAULT_RETRY, _retry, setting=call_settings.RETRY_POLICY, packed=Retry.packed)
    max_age: float | None = _option(None, or_none(checks.seconds), setting=call_settings.MAX_AGE)
    never_retry: tuple[type[BaseException], ...] = _option((), checks.exception_types)
    always_retry: tuple[type[BaseException], ...] = _option((), checks.exception_types)
    executor: Executor = _option("async", checks.choice(get_args(Executor)))
    result_ttl: float | None = _option(None, or_none(checks.seconds), setting=call_settings.RESULT_TTL)
    expires: float | None = _option(None, _positive)
    delay: float = _option(0.0, checks.seconds, of_call=checks.seconds)
    eta: float | None = _option(None, or_none(checks.moment))
    unique_key: str | KeyFunction | None = _key()
    unique_mode: UniqueMode = _option("keep_existing", checks.choice(get_args(UniqueMode)))
    limit_key: str | KeyFunction | None = _key()
    fair_key: str | KeyFunction | None = _key()
    after: tuple[TaskHandle[Any], ...] = _option((), _handles, of_call=_handles)
    wait_for_room: float = _option(0.0, checks.seconds, of_call=checks.seconds)

    settings: dict[str, Any] = field(default_factory=dict[str, Any], init=False, compare=False)  # sent to the worker
    plain: bool = field(init=False, compare=False)  # only the arguments are sent

    def __post_init__(self) -> None:
        object.__setattr__(self, "plain", self._is_plain())

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TaskOptions:
        """The checked options of a decorator. Errors: `ConfigurationError` names the wrong option."""
        checks.known_names("task option {} is not known", given, ["name", *OF_DECORATOR])
        return cls(**{name: OF_DECORATOR[name].check(name, value) for name, value in given.items()})

    def for_call(self, given: CallOptions) -> TaskOptions:
        """These options, overridden by those of one call. Errors: `ConfigurationError` names the wrong option."""
        checks.known_names("option {} is not known", given, OF_CALL)
        changed: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for name, value in given.items():
            rules = OF_CALL[name]
            checked = rules.check_of_call(name, value)
            if checked is None:
                continue
            changed[name] = checked
            if rules.setting is not None:
                settings[rules.setting] = checked if rules.packed is None else rules.packed(checked)
        if "eta" in changed:
            if changed.get("delay"):
                raise OptionError("delay and eta both say when it becomes ready; keep one")
            changed["delay"] = 0.0
        return self.changed(changed, settings)

    def changed(self, options: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> TaskOptions:
        """A copy with other values of some options, which are not checked, and with more settings to send."""
        copy = object.__new__(TaskOptions)
        vars(copy).update(vars(self), **options)
        if settings:
            vars(copy)["settings"] = {**self.settings, **settings}
        vars(copy)["plain"] = copy._is_plain()
        return copy

    def _is_plain(self) -> bool:
        return not (
            self.settings
            or self.delay
            or self.eta
            or self.expires is not None
            or self.unique_key
            or self.limit_key
            or self.fair_key
        )


OPTIONS: dict[str, Option] = {
    each.name: each.metadata["option"] for each in fields(TaskOptions) if "option" in each.metadata
}
OF_DECORATOR = {name: OPTIONS[name] for name in FunctionTaskOptions.__optional_keys__ if name != "name"}
OF_CALL = {name: OPTIONS[name] for name in CallOptions.__optional_keys__}
OF_CLASS = {
    rules.class_attribute: (name, rules) for name, rules in OPTIONS.items() if rules.class_attribute is not None
}


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """`size` items at most, gathered for `window` seconds at most."""

    size: int
    window: float

    @classmethod
    def of(cls, name: str, size: int, window_ms: float | timedelta) -> BatchOptions:
        """Checked options of a batch task: 1 to 100,000 items, and milliseconds or a timedelta, up to an hour."""
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
