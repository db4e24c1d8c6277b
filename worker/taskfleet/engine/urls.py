"""Redis URLs: one server, Sentinels, or a Cluster.

    redis://user:password@host:6379/0                      unix:///run/redis.sock
    redis+sentinel://host:26379,host:26379/mymaster/0      redis+cluster://host:6379,host:6379

`rediss` in place of `redis` is TLS. User name and password are those of the data servers, never of the Sentinels. A URL
of one server may end with `?protocol=3&client_name=…&db=0`. One that means something else than it says is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from taskfleet import checks
from taskfleet.errors import ConfigurationError

Kind = Literal["standalone", "sentinel", "cluster"]
Host = tuple[str, int]

_DEFAULT_PORTS = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}
_SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("standalone", False),
    "rediss": ("standalone", True),
    "unix": ("standalone", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}


_FORMS = (
    "redis://host:6379/0, rediss://…, unix:///path, redis+sentinel://host:26379,host:26379/mastername or "
    "redis+cluster://host:6379,host:6379"
)
_ENCODE = "percent-encode it: @ is %40, / is %2F, ? is %3F, # is %23, [ is %5B, ] is %5D"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]{0,40}")
_HOST = re.compile(r"[\w.\-]{1,253}")
_MOST_DATABASES = 2**31 - 1
# What may stand behind a question mark, of one server.
_OPTIONS = ("db", "protocol", "client_name", "username", "password")


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is. `master`, `database` and `path` only mean something where the kind has them."""

    kind: Kind
    tls: bool
    hosts: tuple[Host, ...]
    username: str | None = None
    password: str | None = None
    master: str = ""
    database: int = 0
    path: str = ""  # of a unix socket
    protocol: int | None = None
    client_name: str | None = None


def parse(url: str) -> Place:
    """Read a URL; `ConfigurationError` says what is wrong with it, without repeating what may be secret."""
    parts = _split(url)
    kind, tls = _SCHEMES[parts.scheme]
    username, password = _userinfo(parts)
    options = _options(parts, kind)
    for name, given in (("username", username), ("password", password)):
        if given and name in options:
            raise ConfigurationError(f"Redis URL: it has two times a {name}; keep the one before the @")
    username, password = username or options.get("username"), password or options.get("password")
    more: dict[str, Any] = {"protocol": _protocol(options.get("protocol")), "client_name": options.get("client_name")}
    if parts.scheme == "unix":
        database = _database(options["db"]) if "db" in options else 0
        return Place(kind, tls, (), username, password, path=_socket(parts), database=database, **more)
    hosts = parse_hosts(parts.netloc.rpartition("@")[2].split(","), kind, "Redis URL")
    path = [_decoded(part) for part in parts.path.split("/") if part]
    master = ""
    if kind == "standalone" and len(hosts) > 1:
        raise ConfigurationError("Redis URL: redis:// names one host; for several write redis+cluster://…")
    if kind == "sentinel":
        if not path:
            raise ConfigurationError("Redis URL: redis+sentinel:// needs the master's name: …host:26379/mastername")
        master, path = path[0], path[1:]
    if kind == "cluster" and path and path != ["0"]:
        raise ConfigurationError("Redis URL: a Cluster has no database but 0; leave the path out")
    if len(path) > 1:
        raise ConfigurationError("Redis URL: there is more behind the database; it ends with its number, such as …/0")
    if path and "db" in options:
        raise ConfigurationError("Redis URL: the path and db= both name a database; keep one")
    database = _database(path[0] if path else options.get("db", "0"))
    return Place(kind, tls, hosts, username, password, master, database, **more)


def _split(url: str) -> SplitResult:
    # Callers without a type checker pass anything.
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"Redis URL: {checks.a_thing(url)} is no text; write {_FORMS}")
    if not url:
        raise ConfigurationError(f"Redis URL: it is empty; write {_FORMS}")
    if not url.isprintable() or " " in url:
        raise ConfigurationError("Redis URL: there is white space or an unprintable character in it; leave it out")
    scheme, separator, _ = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(f"Redis URL: it does not begin with a scheme and ://; write {_FORMS}")
    if scheme.lower() not in _SCHEMES:
        hint = checks.did_you_mean(scheme, [*_SCHEMES, "memory"])
        raise ConfigurationError(f"Redis URL: scheme {scheme!r} is not known{hint}; write {_FORMS}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(
            "Redis URL: its brackets do not match, or hold no IPv6 address, which is all that they are for: "
            f"[::1]:6379. If they are of a user name or password, {_ENCODE}"
        ) from None
    # A slash, question mark or number sign ends the part that names user and host.
    rest = (parts.query, parts.fragment) if parts.scheme == "unix" else (parts.path, parts.query, parts.fragment)
    if any("@" in part for part in rest) or parts.netloc.count("@") > 1:
        raise ConfigurationError(f"Redis URL: its user name or password holds a sign of the URL's own; {_ENCODE}")
    if parts.fragment or url.endswith("#"):
        raise ConfigurationError(f"Redis URL: there is a # in it, which means nothing here. In a password, {_ENCODE}")
    return parts


def _userinfo(parts: SplitResult) -> tuple[str | None, str | None]:
    username, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return _decoded(username) or None, _decoded(password) or None


def _decoded(part: str) -> str:
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        raise ConfigurationError("Redis URL: what is percent-encoded in it is not UTF-8") from None


def _options(parts: SplitResult, kind: Kind) -> dict[str, str]:
    """What stands behind the question mark."""
    found: dict[str, str] = {}
    for part in parts.query.split("&") if parts.query else ():
        name, _, value = part.partition("=")
        if kind != "standalone" or name not in _OPTIONS:
            expected = f"expected one of {', '.join(_OPTIONS)}" if kind == "standalone" else "it takes none"
            hint = checks.did_you_mean(name, _OPTIONS)
            raise ConfigurationError(
                f"Redis URL: option {checks.shown(name)} is not known; {expected}{hint}. "
                "Timeouts, pool and TLS are set in [redis] of task-queue.toml or by TASKFLEET_REDIS__…"
            )
        if name in found or not value:
            raise ConfigurationError(f"Redis URL: option {name!r} wants one value")
        found[name] = _decoded(value)
    return found


def _protocol(value: str | None) -> int | None:
    if value not in (None, "2", "3"):
        raise ConfigurationError(f"Redis URL: protocol={checks.shown(value)} is not known; expected 2 or 3")
    return None if value is None else int(value)


def _database(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= _MOST_DATABASES):
        raise ConfigurationError(f"Redis URL: database {checks.shown(value)} is not a number of 0 or more")
    return int(value)


def _socket(parts: SplitResult) -> str:
    if parts.netloc.rpartition("@")[2] or len(parts.path) < 2:
        raise ConfigurationError("Redis URL: unix:// wants the whole path of a socket, so three slashes: unix:///path")
    return _decoded(parts.path)


def parse_hosts(addresses: Sequence[str], kind: Kind, where: str) -> tuple[Host, ...]:
    """`host:port` each, the port optional; `where` names the setting in the error."""
    found: list[Host] = []
    for address in addresses:
        host, colon, port = address.strip().rpartition(":")
        if not colon or port.endswith("]"):
            host, port = address.strip(), str(_DEFAULT_PORTS[kind])
        if not host:
            raise ConfigurationError(f"{where}: there is no host in it; write host:{_DEFAULT_PORTS[kind]}")
        bracketed = host.startswith("[") and host.endswith("]")
        if not bracketed and ":" in host:
            raise ConfigurationError(
                f"{where}: there is more than one colon in host and port; an IPv6 address stands in brackets, such as "
                "[::1]:6379"
            )
        host = host[1:-1] if bracketed else host
        if not (_is_ipv6(host) if bracketed else _HOST.fullmatch(host)):
            raise ConfigurationError(f"{where}: the host is neither a name nor an address")
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise ConfigurationError(f"{where} for host {host!r}: the port is not a number of 1 to 65535")
        found.append((host, int(port)))
    return tuple(found)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def sentinel(addresses: Sequence[str], master: str, *, where: str) -> str:
    """The URL for these Sentinels."""
    hosts = parse_hosts(addresses, "sentinel", where)
    return f"redis+sentinel://{_joined(hosts)}/{master}"


def cluster(addresses: Sequence[str], *, where: str) -> str:
    """The URL for a Cluster that these nodes belong to."""
    return f"redis+cluster://{_joined(parse_hosts(addresses, 'cluster', where))}"


def address(url: str) -> str:
    """Where a URL leads, without what is secret in it: host:port, several of them, or a path."""
    place = parse(url)
    if place.path:
        return place.path
    hosts = _joined(place.hosts, ", ")
    return f"{hosts} (master {place.master!r})" if place.master else hosts


def _joined(hosts: Sequence[Host], by: str = ",") -> str:
    return by.join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
