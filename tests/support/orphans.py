"""Orphans: keys in Redis that nothing would ever remove.

A key may stay when it has a time to live, or when everything in it has an owner that ends it or whose removal removes
it:

- a task that has not ended (its id is in `task`) owns its records, its position in exactly one structure, and the limit
  and unique keys that it holds;
- a dead letter owns itself, and the paged results that its task was given; an operator requeues or purges it;
- a job or a signal is worked off by the next client of the queue;
- a schedule owns its ticks and lasts until it is removed;
- all of them only in a queue that is registered, since nobody looks after another: `purge` and the autoscaler go by the
  list of queues.

Kept on purpose: see `KEPT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack
import redis

from taskfleet.protocol.partitions import queue_of
from taskfleet.redis.keys import QUEUE_PARTS
from tests.support.redis_server import RedisServer

# Keys and fields that stay without an owner, each with the reason.
KEPT = {
    "queues": "the list of all queues that ever had a task: operators, the autoscaler and purge go by it",
    "ledger": "a list of their own that the tasks of tests write",
    "stat": "totals of a queue since its first task, which the autoscaler and the metrics take differences of",
    "control.paused": "an operator has paused the queue, for as long as it takes",
    "control.large": "the queue has had large payloads, so claims look at the size of each",
    "control.parked": "the number of the last position in `parked`: with it positions are never used twice",
    "control.tokens": "the tokens of the queue's rate limit, which outlast its tasks",
    "control.filled": "when these tokens were counted",
    "retry_at": "limit keys and the time of their next token: the next claim removes those whose time has come, and no "
    "earlier, since tasks that wait for a key and are not in here would wait for ever",
}


@dataclass
class Partition:
    """The contents of one partition: by part of its keys, the ids and texts that are in it."""

    name: str
    parts: dict[str, Any] = field(default_factory=dict[str, Any])

    def members(self, part: str) -> set[bytes]:
        found = self.parts.get(part)
        return set(found) if found is not None else set()

    def fields(self, part: str) -> Mapping[bytes, bytes]:
        found: Mapping[bytes, bytes] = self.parts.get(part) or {}
        return found

    def orphans(self) -> Iterator[str]:
        """The members of all parts that have no owner."""
        yield from self._without_task()
        yield from self._without_running_task()
        yield from self._unknown()

    def _without_task(self) -> Iterator[str]:
        tasks, letters = self.members("task"), self.members("letter")
        jobs = {msgpack.unpackb(job, raw=True)[1] for job in self.members("jobs")}
        owners = {
            **dict.fromkeys(
                ("fair", "delayed", "blocked", "lease", "tag", "meta", "progress", "input", "errors"), tasks
            ),
            "dead": letters,
            "letter": self.members("dead"),
            "gather": self.members("blocked") | self.members("input") | letters | jobs,
            "edges": tasks | jobs,
            "ticks": self.members("schedules"),
            "ticked": self.members("schedules"),
        }
        for part, owning in owners.items():
            for member in sorted(self.members(part)):
                if (_id_in_field(member) if part in ("gather", "edges") else member) not in owning:
                    yield f"{part} of {_text(member)}"
        for key, task_id in self.fields("unique").items():
            if task_id not in tasks:
                yield f"unique key {_text(key)}"
        for member in self.members("parked"):
            if (task_id := member.split(b"\0")[2]) not in tasks:
                yield f"parked {_text(task_id)}"
        removed = int(self.fields("stat").get(b"removed", 0))
        ended = sum(task_id not in tasks for task_id in self.parts.get("ready") or ())
        if ended > removed:
            yield f"ready: {ended} ids of ended tasks, of which {removed} are counted as removed"

    def _without_running_task(self) -> Iterator[str]:
        leased = self.members("lease")
        for part in ("owner", "cancel"):
            yield from (f"{part} of {_text(task_id)}" for task_id in sorted(self.members(part) - leased))
        held = sum(int(n) for n in self.fields("slots").values())
        if held > len(leased):
            yield f"slots: {held} held, and {len(leased)} tasks run"

    def _unknown(self) -> Iterator[str]:
        turns = self.members("fair")
        if not turns:
            yield from (f"turn of fair key {_text(key)!r}" for key in sorted(self.members("turns")))
        marks = {name.removeprefix("control.").encode() for name in KEPT} | ({b"turn"} if turns else set())
        yield from (f"control.{_text(name)}" for name in sorted(self.members("control") - marks))
        parts = {*QUEUE_PARTS, "schedules", "ticks", "ticked"}
        yield from (f"key {part}" for part in sorted(self.parts.keys() - parts))


def _id_in_field(field_name: bytes) -> bytes:
    """The id in `id:number` or in an id with a NUL behind it."""
    task_id = field_name.removesuffix(b"\0")
    return task_id.rpartition(b":")[0] or task_id


class Watch:
    """Looks through the servers of a test run, one database after the other, and empties them."""

    def __init__(self) -> None:
        self._clients: dict[int, redis.Redis] = {}  # by port

    def orphans(self, servers: list[RedisServer]) -> list[str]:
        """All orphans in these servers, which together hold all keys."""
        entries: dict[tuple[str, str], dict[str, Any]] = defaultdict(dict)
        for server in servers:
            for database in self._databases(server):
                for name, value in self._lasting(server, database):
                    prefix, _, rest = name.partition(":")
                    entries[database, prefix][rest] = value
        return [f"{prefix}: {orphan}" for (_, prefix), keys in entries.items() for orphan in _of_prefix(keys)]

    def clear(self, servers: list[RedisServer]) -> None:
        for server in servers:
            if self._databases(server):
                self._client(server).flushall()

    def _client(self, server: RedisServer) -> Any:
        if server.port not in self._clients:
            self._clients[server.port] = redis.Redis(host="127.0.0.1", port=server.port, socket_timeout=60, protocol=2)
        return self._clients[server.port]

    def _databases(self, server: RedisServer) -> list[str]:
        return sorted(self._client(server).info("keyspace"))

    def _lasting(self, server: RedisServer, database: str) -> list[tuple[str, Any]]:
        """(name, contents) of all keys without a time to live."""
        client = self._client(server)
        number = int(database.removeprefix("db"))
        with client.pipeline(transaction=False) as pipeline:
            if number:
                pipeline.execute_command("SELECT", number)
            names = pipeline.keys("*").execute()[-1]
            for name in names:
                pipeline.pttl(name).type(name)
            replies = pipeline.execute()
            lasting = [
                (name, kind) for name, ttl, kind in zip(names, replies[::2], replies[1::2], strict=True) if ttl == -1
            ]
            for name, kind in lasting:
                _read(pipeline, name, kind.decode())
            found = list(zip((_text(name) for name, _ in lasting), pipeline.execute(), strict=True))
            if number:
                pipeline.execute_command("SELECT", 0).execute()
        return found

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def _read(pipeline: Any, name: bytes, kind: str) -> None:
    match kind, name.rpartition(b":")[2]:
        case "hash", b"unique" | b"stat" | b"slots":
            pipeline.hgetall(name)
        case "hash", _:
            pipeline.hkeys(name)
        case "list", _:
            pipeline.lrange(name, 0, -1)
        case "zset", _:
            pipeline.zrange(name, 0, -1)
        case "set", _:
            pipeline.smembers(name)
        case _:
            pipeline.strlen(name)


def _of_prefix(keys: dict[str, Any]) -> Iterator[str]:
    """The orphans of one application's keys, whose names are without its prefix."""
    queues = {queue_of(_text(name)) for name in keys.pop("queues", ())}
    partitions: dict[str, Partition] = {}
    keys.pop("ledger", None)
    for name, value in keys.items():
        tagged, _, part = name.partition("}:")
        if not tagged.startswith("{") or tagged == "{fleet" or not part or value is None:
            yield f"key {name}"
            continue
        partitions.setdefault(tagged[1:], Partition(tagged[1:])).parts[part] = value
    for partition in partitions.values():
        if queue_of(partition.name) not in queues:
            yield f"queue {partition.name} is not registered, and has {', '.join(sorted(partition.parts))}"
            continue
        for orphan in partition.orphans():
            yield f"queue {partition.name}: {orphan}"


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
