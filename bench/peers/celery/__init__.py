"""Celery, on Python, with the solo pool."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

CELERY = PythonPeer(
    name="celery",
    version="5.7.0",
    most=2_000,
    lacks=OURS_ALONE
    | FASTEST_ONLY
    | {
        "enqueue_bulk": "it has no bulk enqueue",
        "sleep": "the solo pool runs one task after the other",
        "delayed": "its delayed tasks wait in the memory of the worker",
    },
)
