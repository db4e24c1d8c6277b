"""taskiq, on Python, with Redis streams."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

TASKIQ = PythonPeer(
    name="taskiq",
    version="0.13.0",
    most=10_000,
    lacks=OURS_ALONE
    | FASTEST_ONLY
    | {
        "enqueue_bulk": "it has no bulk enqueue",
        "delayed": "its delays need a scheduler process with a store of its own",
    },
)
