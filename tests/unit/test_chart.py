"""The chart carries copies; these tests fail when a copy is stale."""

from __future__ import annotations

from pathlib import Path

import yaml

import taskfleet.version

_REPOSITORY = Path(__file__).parents[2]
_CHART = _REPOSITORY / "helm" / "taskfleet"


def test_the_definition_in_the_chart_is_the_generated_one() -> None:
    generated = (_REPOSITORY / "crds" / "taskqueue.yaml").read_text()
    assert (_CHART / "files" / "taskqueue.yaml").read_text() == generated, "stale: run `make crd`"


def test_the_chart_installs_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((_CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == taskfleet.version.__version__
