"""The Lua scripts, read once from their files and called by digest.

Redis has no modules for scripts, so each script is joined from the files in `lua/`. The first lines of a file name the
files that are joined with it:

    -- needs: keys queue/clock     these files come before it, each once, and its code may use their names
    -- then: step/record           these files follow it in this order, each in a block

Needed files are joined as late as possible: a call pays for the functions of each file that it reaches, but not for
those behind an early return.
"""

from __future__ import annotations

import functools
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


# Scripts call keys by name; `last_key` is the number of keys that belong to the queue.
KEYS = "local {}, last_key = {}, {}\n".format(
    ", ".join(QUEUE_PARTS), ", ".join(f"KEYS[{i + 1}]" for i in range(len(QUEUE_PARTS))), len(QUEUE_PARTS)
)


_LUA = resources.files("taskfleet.redis").joinpath("lua")


@functools.cache
def text_of(file: str) -> str:
    """The text of a file in `lua/`; `keys` is made from the names of the keys."""
    if file == "keys":
        return KEYS
    return _LUA.joinpath(f"{file}.lua").read_text(encoding="utf-8")


@functools.cache
def named(file: str, directive: str) -> list[str]:
    """The files that a file names under `needs` or `then`."""
    head = f"-- {directive}: "
    lines = text_of(file).splitlines()
    return [name for line in lines if line.startswith(head) for name in line.removeprefix(head).split()]


def joined(file: str) -> list[tuple[str, str]]:
    """The files of a script in their order: (name, text)."""
    parts: dict[str, str] = {}

    def add(name: str, *, block: bool = False) -> None:
        if name in parts:
            return
        text = text_of(name)
        for needed in named(name, "needs"):
            add(needed)
        parts[name] = f"do\n{text}end\n" if block else text
        for following in named(name, "then"):
            add(following, block=True)

    add(file)
    return list(parts.items())


def _read(name: str) -> Script:
    source = "".join(text for _, text in joined(name))
    # EVALSHA identifies scripts by their SHA-1.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


ENQUEUE = _read("enqueue")
STEP = _read("step")
RENEW = _read("renew")
PROGRESS = _read("progress")
STATS = _read("stats")
STATUS = _read("status")
INSPECT = _read("inspect")
PLACES = _read("places")
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
