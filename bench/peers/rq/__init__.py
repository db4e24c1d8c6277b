"""RQ, on Python, with SimpleWorker."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

RQ = PythonPeer(
    name="rq",
    version="3.0.0",
    most=500,
    lacks=OURS_ALONE
    | FASTEST_ONLY
    | {
        "sleep": "SimpleWorker runs one task after the other",
        "delayed": "its scheduler looks once a second",
        "processes": "its worker ends after a number of tasks, which none of four knows",
    },
)
