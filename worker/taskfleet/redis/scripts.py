"""The Lua scripts, read once from their files and called by digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from taskfleet.redis.keys import QUEUE_PARTS


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua operation."""

    name: str
    source: str
    digest: str


def _text(name: str) -> str:
    return resources.files("taskfleet.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


# Redis has no modules for scripts: what a script asks for with `-- with: keys` or `-- with: transitions` stands before
# it. Keys are then called by their names; `last_key` is how many belong to the queue.
_KEYS = "local {}, last_key = {}, {}\n".format(
    ", ".join(QUEUE_PARTS), ", ".join(f"KEYS[{i + 1}]" for i in range(len(QUEUE_PARTS))), len(QUEUE_PARTS)
)
_WITH = {"keys": _KEYS, "transitions": _KEYS + _text("transitions")}


def _read(name: str) -> Script:
    source = _text(name)
    first_line, _, _ = source.partition("\n")
    if first_line.startswith("-- with: "):
        source = _WITH[first_line.removeprefix("-- with: ")] + source
    # SHA-1 is what EVALSHA identifies scripts by.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


ENQUEUE = _read("enqueue")
STEP = _read("step")
RENEW = _read("renew")
PROGRESS = _read("progress")
STATS = _read("stats")
STATUS = _read("status")
CANCEL = _read("cancel")
RESOLVE = _read("resolve")
LINK = _read("link")
REQUEUE_DEAD = _read("requeue_dead")
PURGE = _read("purge")
PURGE_DEAD = _read("purge_dead")
DRAIN = _read("drain")
HEARTBEAT = _read("heartbeat")
TICK = _read("tick")
SCHEDULE_ADD = _read("schedule_add")
SCHEDULE_REMOVE = _read("schedule_remove")
SCHEDULE_LIST = _read("schedule_list")
SCHEDULE_DUE = _read("schedule_due")
