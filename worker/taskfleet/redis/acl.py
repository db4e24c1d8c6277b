"""The least permissions of a Redis user: the rules for producers, workers and the operator.

`python -m taskfleet.redis.acl worker` prints the rule of one role.
"""

from __future__ import annotations

import re
import sys
from typing import Literal, get_args

from taskfleet.redis import scripts
from taskfleet.redis.scripts import Script

Role = Literal["producer", "worker", "operator", "dashboard", "doctor"]

_ANY = ("PING", "EVALSHA", "EVAL", "SUBSCRIBE", "SMEMBERS")
_SCRIPTS: dict[Role, tuple[Script, ...]] = {
    "producer": (
        scripts.ENQUEUE, scripts.STATUS, scripts.INSPECT, scripts.CANCEL, scripts.LINK, scripts.RESOLVE, scripts.DRAIN,
        scripts.SCHEDULE_ADD, scripts.SCHEDULE_REMOVE, scripts.SCHEDULE_LIST, scripts.SCHEDULE_DUE,
    ),
    "worker": (scripts.STEP, scripts.RENEW, scripts.HEARTBEAT, scripts.PROGRESS, scripts.TICK, scripts.SCHEDULE_DUE),
    "operator": (
        scripts.STATS, scripts.STATUS, scripts.INSPECT, scripts.PLACES, scripts.CANCEL, scripts.RESOLVE, scripts.PURGE,
        scripts.REQUEUE_DEAD, scripts.PURGE_DEAD, scripts.DRAIN, scripts.SCHEDULE_ADD, scripts.SCHEDULE_REMOVE,
        scripts.SCHEDULE_LIST, scripts.SCHEDULE_DUE, scripts.HISTORY_RECORD, scripts.HISTORY_READ,
        scripts.DECISION_RECORD, scripts.ELECT, scripts.LIMIT_KEYS,
    ),
    "dashboard": (
        scripts.STATS, scripts.STATUS, scripts.INSPECT, scripts.PLACES, scripts.CANCEL, scripts.RESOLVE, scripts.PURGE,
        scripts.REQUEUE_DEAD, scripts.DISCARD_DEAD, scripts.RESTORE_DEAD, scripts.DRAIN, scripts.ENQUEUE,
        scripts.SCHEDULE_ADD, scripts.SCHEDULE_LIST, scripts.SCHEDULE_DUE, scripts.HISTORY_RECORD,
        scripts.HISTORY_READ, scripts.ELECT, scripts.LIMIT_KEYS,
    ),
    "doctor": (
        scripts.STATS, scripts.RESOLVE, scripts.DRAIN, scripts.SCHEDULE_ADD, scripts.SCHEDULE_LIST,
        scripts.SCHEDULE_DUE, *scripts.DOCTOR.values(),
    ),
}  # fmt: skip
# The commands that `RedisBroker` sends itself, beside its scripts.
_PLAIN: dict[Role, tuple[str, ...]] = {
    "producer": (
        "SADD", "ZADD", "LRANGE", "LREM", "HGET", "HEXISTS", "HKEYS", "HMGET", "HSCAN", "SET", "GET", "TIME", "ZRANGE",
        "ZSCORE",
    ),
    "worker": ("BLPOP", "EXISTS", "RPUSH", "PEXPIRE", "ZREM", "DEL", "HSCAN", "HMGET"),
    "operator": (
        "ZRANGE", "ZCARD", "HMGET", "TIME", "HSET", "HDEL", "RPUSH", "PEXPIRE", "SET", "DEL", "UNLINK",
        "SREM", "SCAN", "LRANGE", "LREM", "PUBLISH", "SADD", "EXISTS", "INFO", "TYPE", "GET", "HGET",
        "HKEYS", "HSCAN", "ZSCORE", "ZRANDMEMBER",
    ),
    "dashboard": (
        "ZRANGE", "HMGET", "TIME", "HSET", "HDEL", "RPUSH", "PEXPIRE", "SET", "SCAN", "LRANGE", "LREM", "PUBLISH",
        "EXISTS", "TYPE", "GET", "HGET", "HKEYS", "HSCAN", "ZSCORE", "LPUSH", "LTRIM", "ZCARD",
        "ZRANDMEMBER", "HEXISTS",
    ),
    "doctor": (
        "ZRANGE", "ZREM", "HMGET", "TIME", "INFO", "SCAN", "PTTL", "PEXPIRE", "EXISTS", "TYPE", "LRANGE", "LREM",
        "LLEN", "HLEN", "SADD", "SREM", "SISMEMBER", "DEL", "PUBLISH", "PERSIST", "ZSCAN", "HGET", "HKEYS", "ZSCORE",
        "STRLEN",
    ),
}  # fmt: skip
# In a Cluster: which server holds which slots, and a question about a slot that is being moved.
_CLUSTER = ("CLUSTER|SLOTS", "ASKING")

_CALL = re.compile(r"redis\.p?call\(([^,)]*)")
_WORD = re.compile(r"'([A-Z]+)'")


def commands_of(script: Script) -> set[str]:
    """The commands that a script may call: the user who runs it needs permission for all of them."""
    return {word for call in _CALL.findall(script.source) for word in _WORD.findall(call)}


def commands(role: Role, *, cluster: bool = False) -> set[str]:
    """All commands of a role. Tasks send tasks, so a worker is a producer too."""
    found = {*_ANY, *_PLAIN[role], *(_CLUSTER if cluster else ())}
    for script in _SCRIPTS[role]:
        found |= commands_of(script)
    return found | commands("producer") if role == "worker" else found


def rule(role: Role, prefix: str = "taskfleet", *, cluster: bool = False) -> list[str]:
    """The words after the user's name and password in `ACL SETUSER`. With a database other than 0, add `+select`."""
    names = sorted(name.lower() for name in commands(role, cluster=cluster))
    return ["resetkeys", f"~{prefix}:*", "resetchannels", f"&{prefix}:*", "-@all", *(f"+{name}" for name in names)]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in get_args(Role):
        sys.exit(f"usage: python -m taskfleet.redis.acl {'|'.join(get_args(Role))}")
    print(" ".join(rule(sys.argv[1], cluster=True)))  # type: ignore[arg-type]
