"""`spec.queues[]` of the manifest and `QueueOptions` of the library are one list."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from taskfleet import config
from taskfleet.errors import ConfigurationError
from taskfleet.options import DeadLetterOptions, QueueOptions, RateLimit
from taskfleet_operator.children import config_map
from taskfleet_operator.local.plan import plan_of
from taskfleet_operator.resource.manifest import parse
from taskfleet_operator.resource.queue_spec import NOT_AN_OPTION, DeadLetterSpec, QueueSpec, RateLimitSpec
from taskfleet_operator.resource.resource_model import ResourceModel
from tests.support.manifests import changed

NOT_IN_THE_MANIFEST: dict[str, str] = {}
"""Options that `spec.queues[]` does not have, each with its reason."""

NARROWER = {"partitions": "the operator reads every partition at every look"}
"""Fields whose bounds in the manifest are narrower than the library's, each with its reason."""

SECTIONS: list[tuple[str, type[ResourceModel], type[Any], dict[str, Any]]] = [
    ("", QueueSpec, QueueOptions, {"name": "q"}),
    ("rate_limit", RateLimitSpec, RateLimit, {"tasks_per_second": 1, "burst": 1}),
    ("rate_limit_per_key", RateLimitSpec, RateLimit, {"tasks_per_second": 1, "burst": 1}),
    ("dead_letter", DeadLetterSpec, DeadLetterOptions, {}),
]


def bounds() -> list[tuple[str, str, dict[str, Any], int, int]]:
    """Section, field, the section's required fields, least and most: of every whole number in the manifest."""
    found: list[tuple[str, str, dict[str, Any], int, int]] = []
    for section, model, _, required in SECTIONS:
        for name, schema in model.model_json_schema(by_alias=False)["properties"].items():
            branches = [schema, *schema.get("anyOf", ())]
            number = next((branch for branch in branches if branch.get("type") == "integer"), None)
            if number is not None and name not in NOT_AN_OPTION:
                found.append((section, name, required, number["minimum"], number["maximum"]))
    return found


def library_takes(section: str, name: str, required: dict[str, Any], value: int) -> bool:
    given = {**required, name: value}
    try:
        QueueOptions.of(given if not section else {"name": "q", section: given})
    except ConfigurationError:
        return False
    return True


@pytest.mark.parametrize(("section", "model", "options", "required"), SECTIONS, ids=lambda value: str(value)[:40])
def test_manifest_and_library_have_the_same_fields(
    section: str, model: type[ResourceModel], options: type[Any], required: dict[str, Any]
) -> None:
    manifest, library = set(model.model_fields), {field.name for field in fields(options)}
    if not section:
        assert manifest >= set(NOT_AN_OPTION), "remove it from NOT_AN_OPTION"
        assert library >= set(NOT_IN_THE_MANIFEST), "remove it from NOT_IN_THE_MANIFEST"
        manifest, library = manifest - set(NOT_AN_OPTION), library - set(NOT_IN_THE_MANIFEST)
    assert manifest - library == set(), "add it to the library, or to NOT_AN_OPTION with a reason"
    assert library - manifest == set(), "add it to QueueSpec, or to NOT_IN_THE_MANIFEST with a reason"


def test_manifest_and_library_have_the_same_defaults() -> None:
    assert QueueOptions.of(QueueSpec(name="q").options()) == QueueOptions("q")


@pytest.mark.parametrize(("section", "name", "required", "least", "most"), bounds())
def test_manifest_and_library_have_the_same_bounds(
    section: str, name: str, required: dict[str, Any], least: int, most: int
) -> None:
    assert library_takes(section, name, required, least)
    assert library_takes(section, name, required, most)
    if name not in NARROWER:
        assert not library_takes(section, name, required, least - 1)
        assert not library_takes(section, name, required, most + 1)


@pytest.mark.parametrize("name", ["a", "a:b.c-d_e", "a" * 255, "", "a" * 256, "two words", "a/b", "ä", "{a}"])
def test_manifest_and_library_allow_the_same_names(name: str) -> None:
    def manifest_takes() -> bool:
        try:
            QueueSpec(name=name)
        except ValueError:
            return False
        return True

    def library_takes_name() -> bool:
        try:
            QueueOptions(name)
        except ConfigurationError:
            return False
        return True

    assert manifest_takes() == library_takes_name()


def test_a_worker_reads_every_option_from_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = {"tasksPerSecond": 5, "burst": 9}
    given = {
        "name": "orders", "priority": 3, "weight": 2, "targetLatencySeconds": 9, "leaseSeconds": 40, "maxDeliveries": 7,
        "maxLength": 8, "partitions": 4, "rateLimit": limit, "rateLimitPerKey": limit, "concurrency": 6,
        "concurrencyPerKey": 2, "deadLetter": {"maxLength": 11, "ttlSeconds": 12},
    }  # fmt: skip
    assert len(given) == len(QueueSpec.model_fields), "give the new field too"
    manifest = parse(changed({"spec.queues": [given]}), "orders.yaml")
    rate = RateLimit(tasks_per_second=5, burst=9)
    wanted = QueueOptions(
        "orders", priority=3, weight=2, lease_seconds=40, max_deliveries=7, max_length=8, partitions=4, rate_limit=rate,
        rate_limit_per_key=rate, concurrency=6, concurrency_per_key=2,
        dead_letter=DeadLetterOptions(max_length=11, ttl_seconds=12),
    )  # fmt: skip
    in_a_pod = config_map.data(manifest)[config_map.QUEUES_KEY]
    on_this_machine = plan_of(manifest, tmp_path).environment["TASKFLEET_QUEUES"]
    for text in (in_a_pod, on_this_machine):
        monkeypatch.setenv("TASKFLEET_QUEUES", text)
        assert config.queue_options() == {"orders": wanted}
