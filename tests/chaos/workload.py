"""All kinds of calls, and which number is of which kind."""

from __future__ import annotations

import itertools
from random import Random

from tests.chaos import keyed_kinds, kinds, workflow_kinds
from tests.chaos.kinds import Kind

KINDS: dict[str, Kind] = {
    kind.name: kind()
    for kind in (
        kinds.Nap, kinds.Silent, kinds.Plain, kinds.PlainRetried, kinds.Slow, kinds.Delayed, kinds.Awaited,
        kinds.Threaded, kinds.Retried, kinds.Failing, kinds.TimedOut, kinds.CancelledWaiting, kinds.CancelledRunning,
        kinds.Expiring, kinds.Bounded, kinds.Unknown, kinds.Poison,
        keyed_kinds.Unique, keyed_kinds.Debounced, keyed_kinds.Limited, keyed_kinds.Rated, keyed_kinds.Fair,
        keyed_kinds.Spread, workflow_kinds.ChainKind, workflow_kinds.ChordKind,
    )
}  # fmt: skip
_ALL = list(KINDS.values())
_SHARES = list(itertools.accumulate(kind.share for kind in _ALL))

KIND_OF_PART = {part: kind for kind in _ALL for part in kind.parts}


def choose(n: int, seed: int) -> tuple[Kind, Random]:
    """The kind of call `n`, and its source of random numbers."""
    draw = Random(seed * 1_000_003 + n)  # an int: seeding with a string costs a digest
    return draw.choices(_ALL, cum_weights=_SHARES)[0], draw
