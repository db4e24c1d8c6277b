"""Checks of the values that callers give: a check takes an option's name and value, and returns the value to store.

A check runs once, where the option is written, so that a wrong value never reaches a call that others share. An error
is one line: name, value and the expected form.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from taskfleet.errors import ConfigurationError

T = TypeVar("T")

YEARS = 100
MOST_SECONDS = YEARS * 365 * 86_400  # timers, messagepack and the expiry of Redis keys can all hold it
KEY_CHARACTERS = 512
_SHOWN_CHARACTERS = 80

Check = Callable[[str, Any], Any]


class OptionError(ConfigurationError, ValueError):
    """The value of one option is wrong. It is a `ValueError` too, so that pydantic's validators may raise it."""


def a_thing(value: object) -> str:
    """The type of a value for an error: `a list`, `an int`."""
    name = type(value).__name__
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def shown(value: object) -> str:
    """`value` for an error: one line of bounded length, even if its `repr` fails."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # also of an integer with more digits than Python prints
        text = f"<{type(value).__name__}>"
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: _SHOWN_CHARACTERS + 1])
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


# Numbers.


def _number(value: object) -> int | float | None:
    """A finite `int` or `float` of exactly that type; `None` for a `bool`, a text, or a number that needs rounding."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    try:
        # A subclass of int may override its conversion to another number.
        return int.__int__(operator.index(value))  # type: ignore[arg-type]
    except Exception:
        return None


def seconds_in(value: object) -> float | None:
    """The seconds of a number or timedelta; `None` when it is neither, or not finite."""
    return value.total_seconds() if isinstance(value, timedelta) else _number(value)


def seconds(name: str, value: object, *, positive: bool = False, most: float = MOST_SECONDS) -> float:
    """A duration: a number of seconds or a timedelta, from 0 (more than 0 when `positive`) to 100 years."""
    found = seconds_in(value)
    if found is None:
        problem = "is no number of seconds"
    elif positive and found <= 0:
        problem = "must be positive"
    elif found < 0:
        problem = "is negative"
    elif found > most:
        problem = "is too long"
    else:
        return found
    limit = f"{YEARS} years" if most == MOST_SECONDS else f"{most:g} s"
    least = "more than 0" if positive else "0 or more"
    raise OptionError(
        f"{name}={shown(value)} {problem}; expected seconds (a number or a timedelta), {least}, at most {limit}"
    )


def positive_seconds(name: str, value: object) -> float:
    """`seconds`, more than 0."""
    return seconds(name, value, positive=True)


def whole(name: str, value: object, *, least: int = 0, most: int = 1_000_000_000) -> int:
    """A whole number from `least` to `most`."""
    found = None if isinstance(value, float) else _number(value)
    if isinstance(found, int) and least <= found <= most:
        return found
    if isinstance(found, int) and found < 0 == least:
        raise OptionError(f"{name}={shown(value)} is negative; expected a whole number of at most {most}")
    raise OptionError(f"{name}={shown(value)} must be a whole number of at least {least}, and at most {most}")


def rate(name: str, value: object) -> float:
    """A frequency per second: a positive number up to a million."""
    found = _number(value)
    if found is None or not 1e-9 <= found <= 1e6:
        raise OptionError(f"{name}={shown(value)} must be positive: a number of 0.000000001 to 1000000")
    return found


def flag(name: str, value: object) -> bool:
    """`True` or `False`."""
    if not isinstance(value, bool):
        raise OptionError(f"{name}={shown(value)} is not True or False")
    return value


def moment(name: str, value: object) -> float:
    """A datetime with a time zone, at most 100 years ahead, as Unix seconds."""
    if not isinstance(value, datetime):
        raise OptionError(
            f"{name}={shown(value)} is no datetime; expected one with a time zone, such as datetime.now(UTC)"
        )
    try:
        if value.utcoffset() is None:
            raise OptionError(f"{name}={shown(value)} has no time zone; use an aware datetime")
        found = value.timestamp()
        ahead = found - datetime.now(value.tzinfo).timestamp()
    except (OverflowError, OSError):
        raise OptionError(f"{name}={shown(value)} is out of range") from None
    if not ahead <= MOST_SECONDS:
        raise OptionError(f"{name}={shown(value)} is more than {YEARS} years ahead")
    return max(found, 0.001)  # 0 means no time; all times in the past have the same effect


# Texts.


def text(name: str, value: object, *, most: int = 255) -> str:
    """A text that can be printed on one line, of 1 to `most` characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
        raise OptionError(f"{name}={shown(value)} is not valid; expected a text of 1 to {most} printable characters")
    return str.__str__(value)


def key(name: str, value: object, *, what: str = "a key") -> str:
    """A key of a lock, a limit or a turn, or a name; `name` begins the error."""
    # The scripts join texts with NUL; UTF-8 has no half of a surrogate pair.
    if isinstance(value, str) and 1 <= len(value) <= KEY_CHARACTERS and "\0" not in value and is_utf8(value):
        return str.__str__(value)
    raise OptionError(
        f"{name} is {shown(value)}; {what} is a text of 1 to {KEY_CHARACTERS} characters without NUL, in valid Unicode"
    )


def key_or_function(name: str, value: object) -> str | Callable[..., str]:
    """A key, or a function of the call's arguments that returns one."""
    if inspect.iscoroutinefunction(value):
        raise OptionError(
            f"{name}={shown(value)} is async; a key function is called where the task is sent, and is plain"
        )
    return cast("Callable[..., str]", value) if callable(value) else key(name, value)


def is_utf8(value: str) -> bool:
    """Whether a text can be encoded, since it holds no half of a surrogate pair."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def choice(known: Collection[str]) -> Check:
    """A check for one of these words."""

    def check(name: str, value: object) -> str:
        if isinstance(value, str) and value in known:
            return str.__str__(value)
        raise OptionError(
            f"{name}={shown(value)} is not known; expected one of {', '.join(known)}{did_you_mean(value, known)}"
        )

    return check


def did_you_mean(value: object, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or an empty string."""
    if not isinstance(value, str):
        return ""
    import difflib  # for errors only

    by_lower = {word.lower(): word for word in known}
    close = difflib.get_close_matches(value[:100].lower().replace("-", "_"), by_lower, n=1)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


# Others.


def instance(cls: type[T], expected: str) -> Callable[[str, Any], T]:
    """A check for an instance of `cls`."""

    def check(name: str, value: object) -> T:
        if not isinstance(value, cls):
            raise OptionError(f"{name}={shown(value)} is no {cls.__name__}; expected {expected}")
        return value

    return check


def exception_types(name: str, value: object) -> tuple[type[BaseException], ...]:
    """One exception class, or several, as a tuple."""
    found = (value,) if isinstance(value, type) else value
    if isinstance(found, (tuple, list, set, frozenset)):
        classes: tuple[Any, ...] = tuple(found)
        if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
            return classes
    raise OptionError(f"{name}={shown(value)} is not valid; expected exception classes, such as (ValueError, OSError)")


def several(name: str, value: object, of: str) -> list[Any]:
    """The items of a list, tuple or other iterable. A text or a mapping is refused: its items are never meant."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
        raise OptionError(f"{name}={shown(value)} is not a list; expected a list of {of}")
    return list(value)


def or_none(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """The same check, which lets `None` pass."""
    return lambda name, value: None if value is None else check(name, value)


def known_names(problem: str, given: Iterable[object], known: Collection[str]) -> None:
    """Raise `ConfigurationError` for the first unknown name, with the known ones; `{}` in `problem` is the name."""
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"{problem.format(shown(name))}; expected one of {', '.join(sorted(known))}{did_you_mean(name, known)}"
            )
