"""streaq, on Python."""

from __future__ import annotations

from bench.peer import FASTEST_ONLY, OURS_ALONE, PythonPeer

STREAQ = PythonPeer(name="streaq", version="7.2.0", most=5_000, lacks=OURS_ALONE | FASTEST_ONLY)
