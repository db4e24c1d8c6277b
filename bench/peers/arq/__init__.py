"""arq, on Python."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

ARQ = PythonPeer(
    name="arq",
    version="0.28.0",
    most=5_000,
    lacks=OURS_ALONE | FASTEST_ONLY | {"enqueue_bulk": "it has no bulk enqueue"},
)
