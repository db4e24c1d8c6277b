"""SAQ, on Python."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

SAQ = PythonPeer(
    name="saq",
    version="0.26.4",
    most=5_000,
    lacks=OURS_ALONE
    | FASTEST_ONLY
    | {"enqueue_bulk": "it has no bulk enqueue", "delayed": "its delays are whole seconds"},
)
