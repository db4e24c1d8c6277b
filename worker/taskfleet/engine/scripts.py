"""The Lua scripts, read once from their files and called by digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua operation."""

    name: str
    source: str
    digest: str


def _read(name: str) -> Script:
    source = resources.files("taskfleet.engine").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    # SHA-1 is what EVALSHA identifies scripts by.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


ENQUEUE = _read("enqueue")
STEP = _read("step")
RENEW = _read("renew")
STATS = _read("stats")
STATUS = _read("status")
CANCEL = _read("cancel")
REQUEUE_DEAD = _read("requeue_dead")
PURGE = _read("purge")
HEARTBEAT = _read("heartbeat")
