"""Quantities of Kubernetes, such as `200Mi` and `0.5`, as numbers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

_FACTORS = {
    **{suffix: Decimal(1000) ** n for n, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)},
    **{f"{prefix}i": Decimal(1024) ** n for n, prefix in enumerate("KMGTPE", 1)},
}


def amount(quantity: Any) -> Decimal:
    """The number that a quantity stands for. Errors: `ValueError`."""
    text = str(quantity)
    number = text.rstrip("numkKMGTPEi")
    try:
        return Decimal(number) * _FACTORS[text[len(number) :]]
    except (InvalidOperation, KeyError):
        raise ValueError(f"{text!r} is no quantity") from None
