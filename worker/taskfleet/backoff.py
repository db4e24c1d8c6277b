"""How long to wait before the next try."""

from __future__ import annotations

import random


def backoff_seconds(failures: int) -> float:
    """Seconds until the next try: 0.05, doubled with each failure up to 5. Half of it is random, to spread callers."""
    ceiling = min(5.0, 0.05 * 2.0 ** min(failures, 10))
    return ceiling * (0.5 + random.random() / 2)
