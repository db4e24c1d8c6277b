"""The drift check: whether an object in the cluster still has the fields that were applied."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

_amount: Callable[[Any], Decimal] = parse_quantity
_QUANTITIES = {"limits", "requests", "sizeLimit"}


def holds(wanted: Any, live: Any, *, quantity: bool = False) -> bool:
    """Whether every field of `wanted` is in `live` with its value. Other fields are defaults, or of another owner."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(
            key in live and holds(value, live[key], quantity=quantity or key in _QUANTITIES)
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            # A longer list has members of another owner, such as a sidecar. Each wanted member must be in it.
            return isinstance(live, list) and all(any(holds(one, other) for other in live) for one in wanted)
        return all(holds(one, other) for one, other in zip(wanted, live, strict=True))
    return bool(wanted == live) or (quantity and _same_quantity(wanted, live))


def _same_quantity(wanted: Any, live: Any) -> bool:
    """The API server writes `1000m` as `1`, and `1024Mi` as `1Gi`."""
    try:
        return bool(_amount(wanted) == _amount(live))
    except (ValueError, TypeError):
        return False
