"""The text below an attribute in a class body, which Python itself does not keep."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
from typing import Any


@functools.cache
def _classes(module: str) -> dict[str, dict[str, str]]:
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    return {node.name: dict(_texts(node)) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _texts(node: ast.ClassDef) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for one, below in zip(node.body, node.body[1:], strict=False):
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(text, str):
            found.append((one.target.id, " ".join(text.split())))
    return found


def texts_of(cls: type[Any]) -> dict[str, str]:
    """Attribute → text, those of base classes too."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("taskfleet"):
            found |= _classes(base.__module__).get(base.__name__, {})
    return found
