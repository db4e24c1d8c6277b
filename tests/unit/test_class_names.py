"""A class name occurs once in the product, so that a name in a log, a traceback or a conversation means one class."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_class_name_occurs_once() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for package in ("worker/taskfleet", "operator/taskfleet_operator", "dashboard/taskfleet_dashboard"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.name == "answers":
                continue  # the names of the API, some of which are those of what they show
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    found[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {name: locations for name, locations in found.items() if len(locations) > 1} == {}
