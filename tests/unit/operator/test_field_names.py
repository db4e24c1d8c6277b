"""The conventions of the resource's field names, as Kubernetes' own types have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds" / "taskqueue.yaml").read_text(encoding="utf-8"))
DECIMAL = {"processingTimeSeconds", "processingSeconds"}  # "0.05" is a time, and the API has no fractions


def fields(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}", field
        yield from fields(field, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from fields(schema[inner], f"{path}[]")


FIELDS = dict(fields(CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"], ""))


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_follows_the_conventions(path: str) -> None:
    name, field = path.rsplit(".", 1)[1], FIELDS[path]
    assert re.fullmatch(r"[a-z][A-Za-z0-9]*", name)
    if name.endswith("Seconds"):
        assert field["type"] == ("string" if name in DECIMAL else "integer")
    assert not re.search(r"(Millis|Minutes|Hours|Ms)$", name), "durations are in seconds"
    assert all(re.fullmatch(r"([A-Z][a-z0-9]*)+", value) for value in field.get("enum", ()))
    if name.endswith("Ref"):
        assert field["properties"].keys() == {"name", "key"}


def test_the_fields_were_found() -> None:
    assert len(FIELDS) > 180
    assert {".spec.autoscaler.cooldownSeconds", ".status.queues[].oldestAgeSeconds"} <= FIELDS.keys()
