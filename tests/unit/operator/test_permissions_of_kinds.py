"""The chart's RBAC rules grant what the kinds of children need, and no more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet_operator.children import KINDS, ChildKind
from taskfleet_operator.resource.taskqueue import GROUP, PLURAL

RULES = Path(__file__).parents[3] / "helm" / "taskfleet" / "templates" / "_rules.tpl"

OTHERS: dict[tuple[str, str], set[str]] = {
    (GROUP, PLURAL): {"get", "list", "watch", "patch"},
    (GROUP, f"{PLURAL}/status"): {"patch"},
    (GROUP, f"{PLURAL}/finalizers"): {"update"},
    ("apps", "replicasets"): {"list", "watch"},
    ("", "pods"): {"list", "watch", "patch"},
    ("", "pods/status"): {"patch"},
    ("", "secrets"): {"get"},
    ("", "events"): {"create"},
}
"""Resources that are no children, with their verbs."""


def granted() -> dict[tuple[str, str], set[str]]:
    """The verbs by API group and resource. The rules have no template expression, only comments and a name."""
    rules: list[dict[str, Any]] = yaml.safe_load(re.sub(r"\{\{-?.*?-?\}\}", "", RULES.read_text()))
    found: dict[tuple[str, str], set[str]] = {}
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                assert (group, resource) not in found, "one rule for each resource"
                found[group, resource] = set(rule["verbs"])
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_the_chart_grants_the_verbs_of_a_kind(kind: ChildKind) -> None:
    # Server-side apply is `create` and `patch`; informers list and watch; the reconciler gets objects not listed yet.
    needed = {"get", "list", "watch", "create", "patch"} | ({"delete"} if kind.optional else set())
    assert granted().get((kind.group, kind.plural)) == needed


def test_the_chart_grants_nothing_else() -> None:
    children = {(kind.group, kind.plural) for kind in KINDS}
    assert {resource: verbs for resource, verbs in granted().items() if resource not in children} == OTHERS
