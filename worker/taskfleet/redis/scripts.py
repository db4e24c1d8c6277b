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
import pkgutil
from dataclasses import dataclass

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


@functools.cache
def text_of(file: str) -> str:
    """The text of a file in `lua/`; `keys` is made from the names of the keys."""
    if file == "keys":
        return KEYS
    data = pkgutil.get_data("taskfleet.redis", f"lua/{file}.lua")
    if data is None:
        raise FileNotFoundError(file)
    return data.decode()


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


@functools.cache
def read(name: str) -> Script:
    """The script of a file in `lua/`."""
    source = "".join(text for _, text in joined(name))
    # EVALSHA identifies scripts by their SHA-1.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


ENQUEUE = read("enqueue")
STEP = read("step")
RENEW = read("renew")
PROGRESS = read("progress")
STATS = read("stats")
STATUS = read("status")
INSPECT = read("inspect")
PLACES = read("places")
CANCEL = read("cancel")
RESOLVE = read("resolve")
LINK = read("link")
REQUEUE_DEAD = read("requeue_dead")
PURGE = read("purge")
PURGE_DEAD = read("purge_dead")
DISCARD_DEAD = read("discard_dead")
RESTORE_DEAD = read("restore_dead")
DRAIN = read("drain")
HEARTBEAT = read("heartbeat")
TICK = read("tick")
SCHEDULE_ADD = read("schedule_add")
SCHEDULE_REMOVE = read("schedule_remove")
SCHEDULE_LIST = read("schedule_list")
SCHEDULE_DUE = read("schedule_due")
HISTORY_RECORD = read("history_record")
HISTORY_READ = read("history_read")
DECISION_RECORD = read("decision_record")
ELECT = read("elect")
LIMIT_KEYS = read("limit_keys")

# Read when they are first used, since only one command uses them.
DOCTOR = tuple(f"doctor/{name}" for name in ("members", "line", "lost", "edges", "waiting", "whole", "mend"))
