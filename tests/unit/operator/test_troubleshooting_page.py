"""docs/how-to/troubleshoot-scaling.md lists every reason that the code can give."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from taskfleet_operator.control.status.conditions import merge
from taskfleet_operator.control.status.verdicts import verdicts
from tests.unit.operator.test_verdicts import FACTS

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "operator" / "taskfleet_operator"
PAGE = (ROOT / "docs" / "how-to" / "troubleshoot-scaling.md").read_text(encoding="utf-8")
WORD = re.compile(r"(?:[A-Z][a-z]+)+")
NAMED = frozenset(re.findall(rf"`({WORD.pattern})`", PAGE))
# Modules in which a word with capitals is a reason, and the words in them that are something else.
REASONS = {
    "control/status/verdicts.py": {
        "Ready", "Progressing", "RedisReachable", "ScalingActive", "ScalingLimited", "Paused", "Fallback",
        "QueueShared", "DeadLetters",
    },
    "control/reconciling/refusals.py": {
        "Ready", "Reconciled", "SpecValid", "Deployment", "PodDisruptionBudget", "ValidatingAdmissionPolicy",
    },
    "autoscaler/decide.py": {"Enabled"},
    "autoscaler/recommend.py": set[str](),
    "scaling/loop.py": {"DeploymentDefault"},
}  # fmt: skip
CALLS = {"Condition": 2, "Trouble": 0, "post": 0, "warn": 0, "finish": 1}


def words_of(module: str) -> set[str]:
    tree = ast.parse((PACKAGE / module).read_text(encoding="utf-8"))
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and WORD.fullmatch(node.value)
    }


@pytest.mark.parametrize("module", REASONS)
def test_every_reason_of_a_module_is_listed(module: str) -> None:
    words = words_of(module)
    assert words >= REASONS[module], "a word that is no reason has gone from the module"
    assert words - REASONS[module] - NAMED == set()


def test_every_reason_that_is_written_out_in_a_call_is_listed() -> None:
    found: set[str] = set()
    for path in sorted((PACKAGE / "control").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            place = CALLS.get(name)
            if place is not None and len(node.args) > place:
                found |= {
                    part.value
                    for part in ast.walk(node.args[place])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and WORD.fullmatch(part.value)
                }
    assert len(found) > 20
    assert found - NAMED == set()


def test_every_condition_has_a_heading() -> None:
    headings = " ".join(line for line in PAGE.splitlines() if line.startswith("## "))
    known = {one.type for one in verdicts(FACTS)} | {"SpecValid", "Reconciled"}
    assert {kind for kind in known if kind not in headings} == set()
    assert merge((), verdicts(FACTS), 1, 0.0)
