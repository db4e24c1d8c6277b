"""Whether an object in the cluster still is what was applied."""

from __future__ import annotations

from typing import Any


def holds(wanted: Any, live: Any) -> bool:
    """Whether every field of `wanted` is in `live` with its value; the rest is others' or defaults."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(key in live and holds(value, live[key]) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            # A longer list holds others' members, such as a sidecar: each of ours must be among them.
            return isinstance(live, list) and all(any(holds(one, other) for other in live) for one in wanted)
        return all(holds(one, other) for one, other in zip(wanted, live, strict=True))
    return bool(wanted == live)
