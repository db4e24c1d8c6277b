"""The Lua scripts, called by digest; the text of each is read from its files when a Redis does not have it.

Redis has no modules for scripts, so each script is joined from the files in `lua/`. The first lines of a file name the
files that are joined with it:

    -- needs: keys queue/clock     these files come before it, each once, and its code may use their names
    -- then: step/record           these files follow it in this order, each in a block

Needed files are joined as late as possible: a call pays for the functions of each file that it reaches, but not for
those behind an early return.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from taskfleet.errors import TaskQueueError
from taskfleet.redis.keys import QUEUE_PARTS


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua operation: a file in `lua/`.

    EVALSHA identifies it by `digest`, a SHA-1. Its source is read again when a Redis does not have it: the sources of
    all scripts take 0.8 MB of memory, and a worker calls a quarter of them.
    """

    name: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self._read()))

    @property
    def source(self) -> str:
        """The text. Errors: `TaskQueueError` when it is no longer that of the process, which expects other replies."""
        source = self._read()
        if _digest(source) != self.digest:
            raise TaskQueueError(
                f"the files of Taskfleet changed while this process ran, {self.name}.lua among them: restart it"
            )
        return source

    def _read(self) -> str:
        return "".join(text for _, text in joined(self.name))


def _digest(source: str) -> str:
    return hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


_FOLDER = Path(__file__).parent / "lua"

# Scripts call keys by name; `last_key` is the number of keys that belong to the queue.
KEYS = "local {}, last_key = {}, {}\n".format(
    ", ".join(QUEUE_PARTS), ", ".join(f"KEYS[{i + 1}]" for i in range(len(QUEUE_PARTS))), len(QUEUE_PARTS)
)


def text_of(file: str) -> str:
    """The text of a file in `lua/`; `keys` is made from the names of the keys."""
    if file == "keys":
        return KEYS
    return (_FOLDER / f"{file}.lua").read_text(encoding="utf-8")


def named(file: str, directive: str) -> list[str]:
    """The files that a file names under `needs` or `then`."""
    return _named_in(text_of(file), directive)


def _named_in(text: str, directive: str) -> list[str]:
    head = f"-- {directive}: "
    return [name for line in text.splitlines() if line.startswith(head) for name in line.removeprefix(head).split()]


def joined(file: str) -> list[tuple[str, str]]:
    """The files of a script in their order: (name, text)."""
    parts: dict[str, str] = {}
    _add(file, parts)
    return list(parts.items())


# Not a function inside `joined`: one that calls itself would keep the texts until the garbage collector runs, which is
# seldom in a worker.
def _add(file: str, parts: dict[str, str], *, block: bool = False) -> None:
    if file in parts:
        return
    text = text_of(file)
    for needed in _named_in(text, "needs"):
        _add(needed, parts)
    parts[file] = f"do\n{text}end\n" if block else text
    for following in _named_in(text, "then"):
        _add(following, parts, block=True)


ENQUEUE = Script("enqueue")
STEP = Script("step")
RENEW = Script("renew")
PROGRESS = Script("progress")
STATS = Script("stats")
STATUS = Script("status")
INSPECT = Script("inspect")
PLACES = Script("places")
CANCEL = Script("cancel")
RESOLVE = Script("resolve")
LINK = Script("link")
REQUEUE_DEAD = Script("requeue_dead")
PURGE = Script("purge")
PURGE_DEAD = Script("purge_dead")
DISCARD_DEAD = Script("discard_dead")
RESTORE_DEAD = Script("restore_dead")
DRAIN = Script("drain")
HEARTBEAT = Script("heartbeat")
TICK = Script("tick")
SCHEDULE_ADD = Script("schedule_add")
SCHEDULE_REMOVE = Script("schedule_remove")
SCHEDULE_LIST = Script("schedule_list")
SCHEDULE_DUE = Script("schedule_due")
HISTORY_RECORD = Script("history_record")
HISTORY_READ = Script("history_read")
DECISION_RECORD = Script("decision_record")
ELECT = Script("elect")
LIMIT_KEYS = Script("limit_keys")

DOCTOR = {name: Script(f"doctor/{name}") for name in ("members", "line", "lost", "edges", "waiting", "whole", "mend")}
"""The scripts of the doctor."""
