"""Redis URLs: one server, Sentinels, or a Cluster.

    redis://user:password@host:6379/0                      unix:///run/redis.sock
    redis+sentinel://host:26379,host:26379/mymaster/0      redis+cluster://host:6379,host:6379

`rediss` in place of `redis` is TLS. User name and password are for the data servers, never for the Sentinels. The URL
of one server may end with options, `?protocol=3&db=0` (`url_options`). A URL whose meaning would differ from its text
is refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.redis import url_options
from taskfleet.redis.url_options import UrlError, UrlOptions, decoded

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
_HOST = re.compile(r"(?=.{1,253}$)[\w\-]{1,63}(\.[\w\-]{1,63})*\.?")  # a resolver raises for longer or empty parts
_NO_OPTIONS = UrlOptions()


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of Redis. `master`, `database` and `path` have a meaning only for the kinds that use them."""

    kind: Kind
    tls: bool
    hosts: tuple[Host, ...]
    username: str | None = None
    password: str | None = None
    master: str = ""
    database: int = 0
    path: str = ""  # of a Unix socket
    options: UrlOptions = _NO_OPTIONS


def parse(url: str) -> RedisAddress:
    """Read a URL. `ConfigurationError` names the problem without repeating parts that may be secret."""
    parts = _split(url)
    kind, tls = _SCHEMES[parts.scheme]
    username, password = _userinfo(parts)
    if kind != "standalone" and parts.query:
        raise UrlError(
            "Redis URL: option ",
            parts.query.partition("=")[0],
            " is not known; it takes none. "
            "Timeouts, pool and TLS are set in [redis] of task-queue.toml or by TASKFLEET_REDIS__…",
        )
    options = url_options.parse(parts.query, tls=tls)
    for name, given, again in (("username", username, options.username), ("password", password, options.password)):
        if given and again:
            raise ConfigurationError(f"Redis URL: it has two times a {name}; keep the one before the @")
    username, password = username or options.username, password or options.password
    if parts.scheme == "unix":
        return RedisAddress(
            kind, tls, (), username, password, path=_socket(parts), database=options.db or 0, options=options
        )
    hosts = parse_hosts(parts.netloc.rpartition("@")[2].split(","), kind, "Redis URL")
    path = [decoded(part) for part in parts.path.split("/") if part]
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
    if path and options.db is not None:
        raise ConfigurationError("Redis URL: the path and db= both name a database; keep one")
    database = url_options.database(path[0]) if path else options.db or 0
    return RedisAddress(kind, tls, hosts, username, password, master, database, options=options)


def _split(url: str) -> SplitResult:
    # A caller without a type checker may pass any value.
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
        raise UrlError("Redis URL: scheme ", scheme, f" is not known{hint}; write {_FORMS}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(
            "Redis URL: its brackets do not match, or hold no IPv6 address, which is all that they are for: "
            f"[::1]:6379. If they are of a user name or password, {_ENCODE}"
        ) from None
    # The part with the user and the host ends at a slash, a question mark or a number sign.
    rest = (parts.query, parts.fragment) if parts.scheme == "unix" else (parts.path, parts.query, parts.fragment)
    if any("@" in part for part in rest) or parts.netloc.count("@") > 1:
        raise ConfigurationError(f"Redis URL: its user name or password holds a sign of the URL's own; {_ENCODE}")
    if parts.fragment or url.endswith("#"):
        raise ConfigurationError(f"Redis URL: there is a # in it, which means nothing here. In a password, {_ENCODE}")
    return parts


def _userinfo(parts: SplitResult) -> tuple[str | None, str | None]:
    username, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return decoded(username) or None, decoded(password) or None


def _socket(parts: SplitResult) -> str:
    if parts.netloc.rpartition("@")[2] or len(parts.path) < 2:
        raise ConfigurationError("Redis URL: unix:// wants the whole path of a socket, so three slashes: unix:///path")
    return decoded(parts.path)


def parse_hosts(addresses: Sequence[str], kind: Kind, where: str) -> tuple[Host, ...]:
    """The addresses, each `host:port` with an optional port; `where` names the setting in errors."""
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
            raise UrlError(f"{where} for host ", host, ": the port is not a number of 1 to 65535")
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
    """The URL for the Cluster of these nodes."""
    return f"redis+cluster://{_joined(parse_hosts(addresses, 'cluster', where))}"


def address(url: str) -> str:
    """The address in a URL without its secrets: host:port, several of them, or a path."""
    found = parse(url)
    if found.path:
        return found.path
    hosts = _joined(found.hosts, ", ")
    return f"{hosts} (master {found.master!r})" if found.master else hosts


def _joined(hosts: Sequence[Host], by: str = ",") -> str:
    return by.join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
