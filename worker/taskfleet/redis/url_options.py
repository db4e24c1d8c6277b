"""The options of a Redis URL, after the question mark: the options of redis-py that Taskfleet supports.

Each option has the effect of the setting with the same meaning. An option without an effect, or with another effect
than in redis-py, is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from taskfleet import checks
from taskfleet.errors import ConfigurationError

_MOST_DATABASES = 2**31 - 1
_MOST_SECONDS = 3600
_YES = frozenset({"true", "t", "yes", "y", "on", "1"})
_NO = frozenset({"false", "f", "no", "n", "off", "0"})
# Only two values differ for a client: Python treats `optional` as `required`.
_CERT_REQS = {"required": True, "optional": True, "none": False}


class UrlError(ConfigurationError):
    """A part of a URL is wrong. `values` alternate with texts, and begin with a text.

    `without_values` is the message for readers who may not see the URL: the whole of it may be a secret.
    """

    def __init__(self, text: str, *values: str) -> None:
        texts, shown = (text, *values[1::2]), [checks.shown(value) for value in values[::2]]
        self.without_values = "(not shown)".join(texts)
        super().__init__("".join([texts[0], *(value + after for value, after in zip(shown, texts[1:], strict=True))]))


@dataclass(frozen=True, slots=True)
class UrlOptions:
    """The options of a URL. Durations in seconds; `None` where the URL has no value.

    `tls` has fields of `redis.tls.Tls`.
    """

    db: int | None = None
    protocol: int | None = None
    client_name: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    socket_connect_timeout: float | None = None
    socket_timeout: float | None = None
    max_connections: int | None = None
    health_check_interval: int | None = None
    tls: Mapping[str, Any] = field(default_factory=dict[str, Any])


def parse(query: str, *, tls: bool) -> UrlOptions:
    """Read `a=1&b=2`. `ConfigurationError` names the option, but no value that may be secret."""
    found: dict[str, Any] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name not in _OPTIONS:
            known = f"{', '.join(_OPTIONS)}{checks.did_you_mean(name, _OPTIONS)}"
            raise UrlError("Redis URL: option ", name, f" is not known; expected one of {known}")
        if name in found or not value:
            raise ConfigurationError(f"Redis URL: option {name!r} wants one value")
        if name.startswith("ssl_") and not tls:
            raise ConfigurationError(f"Redis URL: option {name!r} is of TLS; write rediss://")
        found[name] = _OPTIONS[name](name, decoded(value))
    if "ssl_keyfile" in found and "ssl_certfile" not in found:
        raise ConfigurationError("Redis URL: option 'ssl_keyfile' needs 'ssl_certfile'")
    fields = {ours: found[name] for name, ours in _TLS_FIELDS.items() if name in found}
    return UrlOptions(**{name: found[name] for name in found if name in _VALUES}, tls=fields)


def decoded(part: str) -> str:
    """`part` of a URL without its percent-encoding."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise ConfigurationError("Redis URL: what is percent-encoded in it is not UTF-8") from None


def database(value: str) -> int:
    """The number of a database."""
    found = _digits(value)
    if found is None or found > _MOST_DATABASES:
        raise UrlError("Redis URL: database ", value, " is not a number of 0 or more")
    return found


def _digits(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdigit() and len(value) <= 10 else None


def _wrong(name: str, value: str, expected: str) -> UrlError:
    return UrlError(f"Redis URL: {name}=", value, f" is not known; expected {expected}")


def _text(_: str, value: str) -> str:
    return value


def _path(_: str, value: str) -> Path:
    return Path(value)


def _protocol(name: str, value: str) -> int:
    if value not in ("2", "3"):
        raise _wrong(name, value, "2 or 3")
    return int(value)


def _seconds(name: str, value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = 0.0
    if not 0 < found <= _MOST_SECONDS:
        raise _wrong(name, value, f"seconds, more than 0, at most {_MOST_SECONDS}")
    return found


def _whole(least: int, most: int) -> Callable[[str, str], int]:
    def check(name: str, value: str) -> int:
        found = _digits(value)
        if found is None or not least <= found <= most:
            raise _wrong(name, value, f"a whole number from {least} to {most}")
        return found

    return check


def _flag(name: str, value: str) -> bool:
    if value.lower() not in _YES | _NO:
        raise _wrong(name, value, "true or false")
    return value.lower() in _YES


def _always(name: str, value: str) -> bool:
    if not _flag(name, value):
        raise ConfigurationError(f"Redis URL: {name} is always on here; leave the option out")
    return True


def _verified(name: str, value: str) -> bool:
    kind = value.lower().removeprefix("cert_")
    if kind not in _CERT_REQS:
        raise _wrong(name, value, "required or none")
    return _CERT_REQS[kind]


_OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "db": lambda _, value: database(value),
    "protocol": _protocol,
    "client_name": _text,
    "username": _text,
    "password": _text,
    "socket_connect_timeout": _seconds,
    "socket_timeout": _seconds,
    "max_connections": _whole(1, 10_000),
    "health_check_interval": _whole(0, _MOST_SECONDS),
    "socket_keepalive": _always,
    "retry_on_timeout": _always,
    "ssl_cert_reqs": _verified,
    "ssl_ca_certs": _path,
    "ssl_certfile": _path,
    "ssl_keyfile": _path,
    "ssl_check_hostname": _flag,
}
_VALUES = frozenset(UrlOptions.__dataclass_fields__)
_TLS_FIELDS = {
    "ssl_cert_reqs": "verify",
    "ssl_ca_certs": "ca_file",
    "ssl_certfile": "cert_file",
    "ssl_keyfile": "key_file",
    "ssl_check_hostname": "check_hostname",
}
