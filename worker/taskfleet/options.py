"""The options of queues. All durations are seconds.

An option is one line: its name, type, default and check, for the dataclass, a dict and the environment alike.
"""

# ruff: noqa: RUF009 - `_option` returns a dataclass field
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeVar

from taskfleet import checks, queue_names
from taskfleet.checks import OptionError, or_none
from taskfleet.errors import ConfigurationError

T = TypeVar("T")


def _option(default: T, check: checks.Check) -> T:
    return field(default=default, metadata={"check": check})


def _required(check: checks.Check) -> Any:
    return field(metadata={"check": check})


class _Checked:
    """A frozen dataclass whose fields are checked, and normalised, when it is made."""

    __slots__ = ()

    def _settle(self, where: str = "") -> None:
        """Replace each value by the result of its check. Errors: `ConfigurationError`, which begins with `where`."""
        for each in fields(self):  # type: ignore[arg-type]
            if (check := each.metadata.get("check")) is not None:
                object.__setattr__(self, each.name, check(where + each.name, getattr(self, each.name)))


@dataclass(frozen=True, slots=True)
class DeadLetterOptions(_Checked):
    """How many dead letters are kept: by count (0 to 10,000,000) and by age."""

    max_length: int = _option(10_000, partial(checks.whole, most=10_000_000))
    ttl_seconds: float = _option(1_209_600.0, checks.positive_seconds)

    def __post_init__(self) -> None:
        self._settle()


@dataclass(frozen=True, slots=True)
class RateLimit(_Checked):
    """A token bucket: at most `burst` tasks start at once, and `tasks_per_second` in the long run."""

    tasks_per_second: float = _required(checks.rate)
    burst: int = _required(partial(checks.whole, least=1, most=1_000_000))

    def __post_init__(self) -> None:
        self._settle()


def _section(cls: type[Any], example: str) -> checks.Check:
    """A check for a dataclass, or a dict of its fields."""
    known = [field.name for field in fields(cls)]

    def check(name: str, value: object) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise OptionError(
                f"{name}={checks.shown(value)} is no {cls.__name__}; expected {example}, or a dict of that"
            )
        checks.known_names(name + ": unknown key {}", value, known)
        try:
            return cls(**value)
        except OptionError as error:
            raise OptionError(f"{name}: {error}") from None
        except TypeError:
            missing = next(each for each in known if each not in value)
            raise OptionError(f"{name}={checks.shown(value)} lacks {missing!r}; expected {example}") from None

    return check


def _lease(name: str, value: object) -> float:
    found = checks.seconds(name, value, most=86_400)
    if found < 1:
        raise OptionError(f"{name}={checks.shown(value)} must be at least 1 second")
    return found


_rate_limit = or_none(_section(RateLimit, "RateLimit(tasks_per_second=10, burst=20)"))
_dead_letter = _section(DeadLetterOptions, "DeadLetterOptions(max_length=10000, ttl_seconds=86400)")
_at_once = or_none(partial(checks.whole, least=1))


@dataclass(frozen=True, slots=True)
class QueueOptions(_Checked):
    """One queue: the fields of the manifest's `spec.queues[]`, in snake case.

    `concurrency` is how many of its tasks run at once in the whole fleet, `concurrency_per_key` how many of one
    `limit_key`; `rate_limit` and `rate_limit_per_key` limit how often they start. `partitions` spreads the queue over
    as many hash slots of a Redis Cluster. Errors: `ConfigurationError` names queue and option.
    """

    name: str
    priority: int = _option(0, partial(checks.whole, least=-1_000_000, most=1_000_000))
    weight: int = _option(1, partial(checks.whole, least=1, most=1_000_000))
    lease_seconds: float = _option(30.0, _lease)
    max_deliveries: int = _option(5, partial(checks.whole, least=1, most=1_000_000))
    max_length: int = _option(0, partial(checks.whole, most=2**53))
    partitions: int = _option(1, partial(checks.whole, least=1, most=4096))
    rate_limit: RateLimit | None = _option(None, _rate_limit)
    rate_limit_per_key: RateLimit | None = _option(None, _rate_limit)
    dead_letter: DeadLetterOptions = _option(DeadLetterOptions(), _dead_letter)
    concurrency: int | None = _option(None, _at_once)
    concurrency_per_key: int | None = _option(None, _at_once)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", queue_names.validate(self.name))
        self._settle(f"queue {self.name!r}: ")

    @classmethod
    def of(cls, value: QueueOptions | Mapping[str, Any] | str) -> QueueOptions:
        """Accept the dataclass, a dict of the same names, or a bare name."""
        if isinstance(value, QueueOptions):
            return value
        if isinstance(value, str):
            return cls(value)
        # A caller without a type checker may pass anything.
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"queue options {checks.shown(value)}: expected QueueOptions, a dict of the same names, or a name"
            )
        checks.known_names("queue options: unknown key {}", value, [field.name for field in fields(cls)])
        if "name" not in value:
            raise ConfigurationError(f"queue options {checks.shown(dict(value))} have no 'name'")
        return cls(**value)

    @classmethod
    def of_all(cls, values: Iterable[QueueOptions | Mapping[str, Any] | str], *, where: str) -> dict[str, QueueOptions]:
        """Options of several queues, by name. Errors: `ConfigurationError` for two of one queue in `where`."""
        found: dict[str, QueueOptions] = {}
        for options in map(cls.of, checks.several(where, values, "queue options or names")):
            if options.name in found:
                raise ConfigurationError(f"{where}: queue {options.name!r} is there twice; put its options into one")
            found[options.name] = options
        return found
