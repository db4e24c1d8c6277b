"""Every reason, rule and term that a decision can have is told in words, also on the pages, and no other is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from taskfleet_operator import autoscaler
from taskfleet_operator.autoscaler import decide
from taskfleet_operator.autoscaler.wording import LIMITS, REASONS, TERMS
from tests.unit.autoscaler.builders import fresh, queue, sample, spec

PACKAGE = Path(autoscaler.__file__).parents[1]
MODULES = ("autoscaler/decide.py", "autoscaler/recommend.py", "scaling/loop.py")
WORDS = Path(__file__).parents[3] / "dashboard" / "front" / "src" / "words.ts"
# Where each of these calls has the rule that limits.
LIMITING = {"limit": 1, "held": 0}
REASONING = {"finish": 1}


def texts(node: ast.expr) -> Iterator[str]:
    return (each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str))


def found(calls: dict[str, int], name: str) -> set[str]:
    """The texts that stand where those calls have them, in a keyword of that name, or are assigned to that name."""
    words: set[str] = set()
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                place = calls.get(getattr(node.func, "attr", ""))
                if place is not None and len(node.args) > place:
                    words.update(texts(node.args[place]))
                for keyword in node.keywords:
                    if keyword.arg == name:
                        words.update(texts(keyword.value))
            elif isinstance(node, ast.Assign):
                for target, value in assigned(node):
                    if name in (getattr(target, "id", ""), getattr(target, "attr", "")):
                        words.update(texts(value))
    return words - {""}


def assigned(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def on_the_pages(table: str) -> set[str]:
    """The keys of a table of the dashboard's `words.ts`."""
    text = WORDS.read_text(encoding="utf-8")
    body = re.search(rf"const {table}: Record<string, string> = {{\n(.*?)\n}};", text, re.DOTALL)
    assert body is not None
    return set(re.findall(r"^  (\w+): ", body[1], re.MULTILINE))


def test_every_reason_has_words() -> None:
    assert found(REASONING, "reason") == REASONS.keys() == on_the_pages("REASONS")


def test_every_rule_that_limits_has_words_and_says_what_would_change_it() -> None:
    assert found(LIMITING, "limited_by") == LIMITS.keys() == on_the_pages("LIMITS")
    assert all(limit and change for limit, change in LIMITS.values())


def test_every_term_has_words() -> None:
    decision = decide(sample(queue(100), current=2), fresh(2), spec(), 1000.0)
    assert decision.terms.keys() == TERMS.keys()
