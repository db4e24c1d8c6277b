"""Values without a schema: the pod template, and the arguments of a schedule."""

from __future__ import annotations

import copy
from typing import TypeVar

MOST_LEVELS = 64
"""Deeper values are refused. A PodTemplateSpec has 12 levels, and what walks it does so by recursion."""

T = TypeVar("T")


def own_copy(value: T) -> T:
    """A copy that shares nothing with the manifest, which is the informer's: who changes one changes no other."""
    level: list[object] = [value]
    for _ in range(MOST_LEVELS):
        level = [child for node in level for child in _children(node)]
        if not level:
            return copy.deepcopy(value)
    raise ValueError(f"is more than {MOST_LEVELS} levels deep")


def _children(node: object) -> list[object]:
    if isinstance(node, dict):
        return list(node.values())
    return list(node) if isinstance(node, (list, tuple)) else []
