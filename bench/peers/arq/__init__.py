"""arq, on Python."""

from __future__ import annotations

from bench.peer import CRASH, OURS, PythonPeer

ARQ = PythonPeer(
    name="arq",
    version="0.28.0",
    most=5_000,
    lacks=OURS | CRASH | {"enqueue_bulk": "it has no bulk enqueue"},
)
