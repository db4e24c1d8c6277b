"""Corrections of drift: which children are in line, and when a correction that never lasts is given up.

A child is in line as long as its content is what the last apply, or its dry run, has left. So a webhook that changes
what the operator writes causes no second write. A program that writes the same field again and again is told in a
condition, and is not fought.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..store.cluster_store import Key, Object, is_before
from . import drift
from .applying import Change, is_unsettled

_MOST, _WITHIN_SECONDS = 5, 600.0
_REMEMBERED = 50
# For how long the watch is taken to lag behind a write. Resource versions fall when a backup of a cluster is restored,
# and what the watch shows then is no old copy.
_LAG_SECONDS = 30.0


@dataclass
class _CorrectedChild:
    """Digests of what was asked for last and of what the API server made of it, and when which field was put back.

    The objects themselves would be half of the operator's memory.
    """

    uid: str
    wanted: bytes
    content: bytes
    corrected: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    quarrel: str = ""
    write: tuple[float, str] = (0.0, "")  # the operator's own last one: when, and the resource version that it made
    changed: list[str] = field(default_factory=list[str])


class Corrections:
    """The memory of one term of leadership."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._children: dict[tuple[Key, str], _CorrectedChild] = {}

    def is_in_line(self, key: Key, change: Change) -> bool:
        """Whether a child needs no write, as far as can be said without asking the API server."""
        if change.live is None or is_unsettled(change.live):
            return False
        known = self._known(key, change, change.live)
        if known is not None and self._is_from_before(known, change.live):
            return True  # the event of that write brings the next look
        now = _digest(drift.content(change.live, scaled=change.kind.scaled))
        if known is not None and known.content == now:
            known.quarrel = ""
            return True
        if drift.is_exact(change.wanted, change.live):
            self._keep(key, change, change.live)
            return True
        return False

    def is_unchanged(self, key: Key, change: Change, rehearsed: Object | None) -> bool:
        """Whether the apply that was rehearsed would change nothing, or is given up."""
        if change.live is None or rehearsed is None or is_unsettled(change.live):
            return False
        scaled = change.kind.scaled
        live, then = drift.content(change.live, scaled=scaled), drift.content(rehearsed, scaled=scaled)
        if live == then:
            self._keep(key, change, rehearsed)
            return True
        known = self._known(key, change, change.live)
        if known is None:
            return False
        now, path = self._clock(), drift.first_difference(then, live)
        if sum(of == path and now - at < _WITHIN_SECONDS for at, of in known.corrected) >= _MOST:
            known.quarrel = (
                f"{change.kind.kind} {change.wanted['metadata']['name']!r}: {path} was put back {_MOST} times and is "
                f"changed again by {drift.last_other_manager(change.live)!r}; change it there, or in the TaskQueue"
            )
            return True
        known.corrected.append((now, path))
        return False

    def written(self, key: Key, change: Change, live: Object) -> None:
        self._keep(key, change, live)
        version = live["metadata"].get("resourceVersion", "")
        self._children[key, change.kind.kind].write = (self._clock(), version)

    def quarrels(self, key: Key) -> list[str]:
        """The corrections that were given up."""
        return [child.quarrel for (of, _), child in self._children.items() if of == key and child.quarrel]

    def changes(self, key: Key) -> list[str]:
        """Fields that the API server has with another value than was applied: a webhook of the cluster changes them."""
        return [f"{kind} {path}" for (of, kind), one in self._children.items() if of == key for path in one.changed]

    def forget(self, key: Key) -> None:
        for of in [one for one in self._children if one[0] == key]:
            del self._children[of]

    def _known(self, key: Key, change: Change, live: Object) -> _CorrectedChild | None:
        """The memory of this very object, while the same is asked for."""
        known = self._children.get((key, change.kind.kind))
        same = known is not None and known.uid == live["metadata"].get("uid") and known.wanted == _digest(change.wanted)
        return known if same else None

    def _is_from_before(self, known: _CorrectedChild, live: Object) -> bool:
        """Whether the watch has shown the child as it was before the operator's own last write.

        What it shows then has been put back already: to count it again would be a quarrel with nobody.
        """
        at, version = known.write
        lagging = bool(version) and self._clock() - at < _LAG_SECONDS
        return lagging and is_before(live["metadata"].get("resourceVersion", ""), version)

    def _keep(self, key: Key, change: Change, live: Object) -> None:
        now = _digest(drift.content(live, scaled=change.kind.scaled))
        known = self._known(key, change, live)
        if known is not None:
            known.content, known.quarrel = now, ""
        else:
            uid = live["metadata"].get("uid", "")
            known = self._children[key, change.kind.kind] = _CorrectedChild(uid, _digest(change.wanted), now)
        known.changed = [] if drift.is_exact(change.wanted, live) else [*drift.changed_fields(change.wanted, live)]


def _digest(value: Any) -> bytes:
    """Of any JSON value; equal values have equal digests."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()
