"""dramatiq, on Python, with threads."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

DRAMATIQ = PythonPeer(
    # Messages that it prefetches: as many as with 100 threads; with 8 threads it would be 16.
    environment={"dramatiq_queue_prefetch": "200"},
    name="dramatiq",
    version="2.2.1",
    most=10_000,
    lacks=OURS_ALONE
    | FASTEST_ONLY
    | {"enqueue_bulk": "it has no bulk enqueue", "sleep": "a slot is a thread, and it is not made for 1,000"},
)
