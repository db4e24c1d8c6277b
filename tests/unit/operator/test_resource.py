from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskfleet.errors import ConfigurationError
from taskfleet_operator.resource import crd
from taskfleet_operator.resource.manifest import load_manifest, parse
from tests.support.manifests import CASES, GOOD, Case, changed

ROOT = Path(__file__).parents[3]


def test_the_crd_file_is_generated_from_the_models() -> None:
    assert (ROOT / "crds" / "taskqueue.yaml").read_text() == crd.render(), "run `make crd`"


def test_the_crd_is_small_and_has_its_rules() -> None:
    text = crd.render()
    assert len(text) < 100_000
    rules = re.findall(r"^\s*- rule: ", text, re.MULTILINE)
    assert len(rules) >= 20


def test_every_optional_field_has_a_default_or_may_be_absent() -> None:
    def walk(schema: dict[str, object], path: str) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            required = schema.get("required", [])
            assert isinstance(required, list)
            for name, value in properties.items():
                if value.get("type") == "object" and "properties" in value and name not in required:
                    inner = value.get("required", [])
                    assert (
                        inner
                        or "default" in value
                        or path + name in {"spec.redis.auth", "spec.worker.updateStrategy.rollingUpdate"}
                    )
                walk(value, f"{path}{name}.")

    spec = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    walk(spec, "spec.")


def test_every_field_is_described() -> None:
    """`kubectl explain tq` prints these. A field is described by its docstring, or by that of its model."""

    def undescribed(schema: dict[str, Any], path: str) -> list[str]:
        found = [] if "description" in schema else [path]
        for name, value in schema.get("properties", {}).items():
            found += undescribed(value, f"{path}.{name}")
        if "properties" in schema.get("items", {}):
            found += undescribed(schema["items"], f"{path}[]")
        return found

    root = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert undescribed(root["spec"], "spec") + undescribed(root["status"], "status") == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_rule_refuses_and_allows_without_a_cluster_too(case: Case) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(changed(case.bad), "orders.yaml")
    assert case.says in str(caught.value)
    assert str(caught.value).startswith("orders.yaml: ")
    assert "\n" not in str(caught.value)
    parse(changed(case.good), "orders.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "is not YAML"),
        ("kind: Deployment\n", "expected one document with kind: TaskQueue, found 0"),
        (yaml.safe_dump(GOOD) + "---\n" + yaml.safe_dump(GOOD), "found 2"),
        (yaml.safe_dump(changed({"apiVersion": "taskfleet.io/v1"})), "apiVersion: expected taskfleet.io/v1alpha1"),
        (yaml.safe_dump(changed({"spec.autoscaler.minReplica": 1})), "spec.autoscaler.minReplica: is not a field"),
        (yaml.safe_dump(changed({"spec.queues": []})), "spec.queues: "),
        (
            yaml.safe_dump(changed({"spec.redis.url": "redis://host/9999999999"})),
            "spec.redis.url: Redis URL: database '9",
        ),
        (yaml.safe_dump(changed({"spec.redis.url": "redis://host?db=1&db=1"})), "option 'db' wants one value"),
        (yaml.safe_dump(changed({"spec.redis.url": "redis://h?socket_timeout=.."})), "expected seconds"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_manifest(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.yaml: cannot be read: No such file"):
        load_manifest(tmp_path / "nothing.yaml")
