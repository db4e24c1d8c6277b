"""streaq, on Python."""

from __future__ import annotations

from bench.peer import CRASH, OURS, PythonPeer

STREAQ = PythonPeer(name="streaq", version="7.2.0", most=5_000, lacks=OURS | CRASH)
