"""Redis URLs: one server, Sentinels, or a Cluster.

    redis://user:password@host:6379/0                      unix:///run/redis.sock
    redis+sentinel://host:26379,host:26379/mymaster/0      redis+cluster://host:6379,host:6379

`rediss` in place of `redis` is TLS. User name and password are those of the data servers, never of the Sentinels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

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


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is. `master` and `database` only mean something where the kind has them."""

    kind: Kind
    tls: bool
    hosts: tuple[Host, ...]
    username: str | None = None
    password: str | None = None
    master: str = ""
    database: int = 0


def parse(url: str) -> Place:
    """Read a URL; `ConfigurationError` says what is wrong with it, without repeating what may be secret."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"Redis URL: scheme {parts.scheme!r} is not known; write redis://host:6379/0, rediss://…, unix://…, "
            "redis+sentinel://host:26379,host:26379/mastername or redis+cluster://host:6379,host:6379"
        )
    kind, tls = _SCHEMES[parts.scheme]
    if parts.scheme == "unix":
        return Place(kind, tls, ())
    userinfo, _, netloc = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    hosts = parse_hosts(netloc.split(","), kind, "Redis URL")
    path = [unquote(part) for part in parts.path.split("/") if part]
    master = ""
    if kind == "standalone":
        if len(hosts) > 1:
            raise ConfigurationError("Redis URL: redis:// names one host; for several write redis+cluster://…")
        path = path[:1] if path and path[0].isdigit() else []  # what redis-py makes of it, too
    if kind == "sentinel":
        if not path:
            raise ConfigurationError("Redis URL: redis+sentinel:// needs the master's name: …host:26379/mastername")
        master, path = path[0], path[1:]
    if kind == "cluster" and path and path != ["0"]:
        raise ConfigurationError("Redis URL: a Cluster has no database but 0; leave the path out")
    if path and not path[0].isdigit():
        raise ConfigurationError(f"Redis URL: database {path[0]!r} is not a number")
    return Place(
        kind,
        tls,
        hosts,
        username=unquote(username) or None,
        password=unquote(password) or None,
        master=master,
        database=int(path[0]) if path else 0,
    )


def parse_hosts(addresses: Sequence[str], kind: Kind, where: str) -> tuple[Host, ...]:
    """`host:port` each, the port optional; `where` names the setting in the error."""
    found: list[Host] = []
    for address in addresses:
        host, colon, port = address.strip().rpartition(":")
        if not colon or port.endswith("]"):
            host, port = address.strip(), str(_DEFAULT_PORTS[kind])
        host = host.removeprefix("[").removesuffix("]")
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigurationError(f"{where} for host {host!r}: the port is not a number")
        found.append((host or "localhost", int(port)))
    return tuple(found)


def sentinel(addresses: Sequence[str], master: str, *, where: str) -> str:
    """The URL for these Sentinels."""
    hosts = parse_hosts(addresses, "sentinel", where)
    return f"redis+sentinel://{_joined(hosts)}/{master}"


def cluster(addresses: Sequence[str], *, where: str) -> str:
    """The URL for a Cluster that these nodes belong to."""
    return f"redis+cluster://{_joined(parse_hosts(addresses, 'cluster', where))}"


def address(url: str) -> str:
    """Where a URL leads, without what is secret in it: host:port, several of them, or a path."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    place = parse(url)
    hosts = _joined(place.hosts, ", ")
    return f"{hosts} (master {place.master!r})" if place.master else hosts


def _joined(hosts: Sequence[Host], by: str = ",") -> str:
    return by.join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
