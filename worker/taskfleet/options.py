"""What can be set on a queue. All durations are seconds.

Each option has one check here, for the dataclass, a dict and the environment alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from taskfleet import checks, queue_names
from taskfleet.checks import OptionError, checked, or_none
from taskfleet.errors import ConfigurationError


class _Checked:
    """A frozen dataclass whose fields are checked, and normalised, when it is made."""

    __slots__ = ()

    def _settle(self, table: Mapping[str, checks.Check], where: str = "") -> None:
        for name, value in checked(table, {name: getattr(self, name) for name in table}, where=where).items():
            object.__setattr__(self, name, value)


_DEAD_LETTER_CHECKS: dict[str, checks.Check] = {
    "max_length": partial(checks.whole, most=10_000_000),
    "ttl_seconds": checks.positive_seconds,
}


@dataclass(frozen=True, slots=True)
class DeadLetterOptions(_Checked):
    """How many dead letters are kept: by count (0 to 10,000,000) and by age."""

    max_length: int = 10_000
    ttl_seconds: float = 1_209_600.0

    def __post_init__(self) -> None:
        self._settle(_DEAD_LETTER_CHECKS)


_RATE_LIMIT_CHECKS: dict[str, checks.Check] = {
    "tasks_per_second": checks.rate,
    "burst": partial(checks.whole, least=1, most=1_000_000),
}


@dataclass(frozen=True, slots=True)
class RateLimit(_Checked):
    """A token bucket: at most `burst` tasks start at once, and `tasks_per_second` in the long run."""

    tasks_per_second: float
    burst: int

    def __post_init__(self) -> None:
        self._settle(_RATE_LIMIT_CHECKS)


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


_rate_limit = or_none(_section(RateLimit, "RateLimit(tasks_per_second=10, burst=20)"))
_at_once = or_none(partial(checks.whole, least=1))
_QUEUE_CHECKS: dict[str, checks.Check] = {
    "priority": partial(checks.whole, least=-1_000_000, most=1_000_000),
    "weight": partial(checks.whole, least=1, most=1_000_000),
    "lease_seconds": lambda name, value: _lease(name, value),
    "max_deliveries": partial(checks.whole, least=1, most=1_000_000),
    "max_length": partial(checks.whole, most=2**53),
    "partitions": partial(checks.whole, least=1, most=4096),
    "rate_limit": _rate_limit,
    "rate_limit_per_key": _rate_limit,
    "dead_letter": _section(DeadLetterOptions, "DeadLetterOptions(max_length=10000, ttl_seconds=86400)"),
    "concurrency": _at_once,
    "concurrency_per_key": _at_once,
}


def _lease(name: str, value: object) -> float:
    found = checks.seconds(name, value, most=86_400)
    if found < 1:
        raise OptionError(f"{name}={checks.shown(value)} must be at least 1 second")
    return found


@dataclass(frozen=True, slots=True)
class QueueOptions(_Checked):
    """One queue: the fields of the manifest's `spec.queues[]`, in snake case.

    `concurrency` is how many of its tasks run at once in the whole fleet, `concurrency_per_key` how many of one
    `limit_key`; `rate_limit` and `rate_limit_per_key` limit how often they start. `partitions` spreads the queue over
    as many hash slots of a Redis Cluster. Errors: `ConfigurationError` names queue and option.
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
        object.__setattr__(self, "name", queue_names.validate(self.name))
        self._settle(_QUEUE_CHECKS, f"queue {self.name!r}: ")

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
