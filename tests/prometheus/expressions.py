"""What the tests read out of the files of the chart: alerts, panels, and the metrics and labels that a query names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
ALERTS = REPOSITORY / "helm" / "taskfleet" / "files" / "alerts.yaml"
DASHBOARDS = REPOSITORY / "helm" / "taskfleet" / "files" / "dashboards"
RUNBOOKS = REPOSITORY / "docs" / "runbooks"

_METRIC = re.compile(r"\btaskfleet_[a-z_]+")
_BY = re.compile(r"\b(?:by|on) ?\(([^)]*)\)")
_MATCHER = re.compile(r"([a-z_]+) ?(?:=~|!~|!=|=)\"")
_MADE = re.compile(r'label_replace\(.*?, "(\w+)", ')
_VARIABLE = re.compile(r"label_values\((.+), (\w+)\)")


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels() -> Iterator[tuple[str, str]]:
    """(where it is, query) of every target of every panel, the variables replaced as a user who has chosen nothing."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                yield f"{file.stem}: {panel['title']} {target['refId']}", filled(target["expr"])


def variables() -> Iterator[tuple[str, str, str]]:
    """(where it is, series, label) of every variable of every dashboard that Grafana asks Prometheus for."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        for variable in json.loads(file.read_text(encoding="utf-8"))["templating"]["list"]:
            if variable["type"] == "query":
                found = _VARIABLE.fullmatch(variable["query"]["query"])
                assert found, variable
                yield f"{file.stem}: ${variable['name']}", filled(found[1]), found[2]


def filled(expression: str) -> str:
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", "20s"))


def metrics_of(expression: str) -> set[str]:
    return set(_METRIC.findall(expression))


def labels_of(expression: str) -> set[str]:
    """The labels that a query groups or selects by, without those that it makes itself."""
    grouped = {name.strip() for names in _BY.findall(expression) for name in names.split(",") if name.strip()}
    return (grouped | set(_MATCHER.findall(expression))) - set(_MADE.findall(expression))
