"""The alerts: promtool takes them, each is tested both ways, and each has its runbook."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet_operator.autoscaler.wording import LIMITS, REASONS
from tests.prometheus.expressions import ALERTS, REPOSITORY, RUNBOOKS, alerts, metrics_of, panels

UNIT_TESTS = Path(__file__).parent / "alerts_test.yaml"
URL = "https://github.com/taskfleet/taskfleet/blob/main/docs/runbooks"


def run(promtool: str, *arguments: str) -> str:
    found = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout + found.stderr


def test_prometheus_takes_the_rules(promtool: str) -> None:
    assert f"{len(alerts())} rules found" in run(promtool, "check", "rules", str(ALERTS))


def test_each_alert_fires_when_it_should_and_not_otherwise(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", str(UNIT_TESTS))


def test_a_wrong_rule_fails_its_unit_test(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text().replace("> 0.05", "> 0.5"))
    tests = yaml.safe_load(UNIT_TESTS.read_text())
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(tests | {"rule_files": ["alerts.yaml"]}))
    found = subprocess.run([promtool, "test", "rules", str(tmp_path / "test.yaml")], capture_output=True, check=False)
    assert found.returncode == 1
    assert b"TaskfleetFailureRateHigh" in found.stdout + found.stderr


def cases() -> dict[str, list[bool]]:
    """For each alert, whether it fires in each of its unit tests."""
    found: dict[str, list[bool]] = {}
    for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for case in test.get("alert_rule_test", ()):
            found.setdefault(case["alertname"], []).append(bool(case.get("exp_alerts")))
    return found


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert {name: {True, False} for name in alerts()} == {name: set(found) for name, found in cases().items()}


def test_every_reason_and_rule_that_an_alert_names_is_one_of_a_decision() -> None:
    for label, words in (("reason", REASONS), ("rule", LIMITS)):
        lists = [found for rule in alerts().values() for found in re.findall(rf'{label}=~"([^"]+)"', rule["expr"])]
        named = {word for found in lists for word in found.split("|")}
        assert len(named) > 3
        assert named - words.keys() == set()


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_to_do(name: str) -> None:
    rule: dict[str, Any] = alerts()[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"{URL}/{name}.md"
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## What it means", "## How to see it", "## What to do",
    ]  # fmt: skip


def test_every_runbook_is_of_an_alert_and_in_the_index() -> None:
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == alerts().keys()
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    navigation = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    listed = {name: rule["labels"]["severity"] for name, rule in alerts().items()}
    assert dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", index, re.MULTILINE)) == listed
    assert set(re.findall(r"\]\(runbooks/(Taskfleet\w+)\.md\)", navigation)) == alerts().keys()


def test_every_metric_that_a_rule_or_a_panel_names_is_in_the_reference() -> None:
    page = (REPOSITORY / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    queries = [*(rule["expr"] for rule in alerts().values()), *(query for _, query in panels())]
    named = {metric for query in queries for metric in metrics_of(query)}
    assert {re.sub(r"_(bucket|count)$", "", metric) for metric in named} - documented == set()
