"""docs/reference/taskqueue.md has every field of the resource, with the default and the bounds of the CRD."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "taskqueue.md").read_text(encoding="utf-8")


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield path + name, field
        yield from _fields(field, f"{path}{name}.")
        yield from _fields(field.get("items", {}), f"{path}{name}[].")


def _rows() -> Iterator[tuple[str, tuple[str, str, str]]]:
    """(path of a field, its cells). A heading that names one part of `spec` is the beginning of the path."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        parts = re.findall(r"`spec\.?([\w\[\]]*)`", section.partition("\n")[0])
        prefix = f"{parts[0]}." if len(parts) == 1 and parts[0] else ""
        for field, *cells in re.findall(r"^\| `([\w.\[\]]+)` \|(.*)\|(.*)\|(.*)\|$", section, re.MULTILINE):
            default, values, meaning = (cell.strip() for cell in cells)
            yield prefix + field, (default, values, meaning)


CRD = yaml.safe_load((ROOT / "crds" / "taskqueue.yaml").read_text(encoding="utf-8"))
SPEC = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
# The fields of a PodTemplateSpec are Kubernetes' own.
FIELDS = {path: field for path, field in _fields(SPEC) if not path.startswith("worker.template.")}
ROWS = dict(_rows())


def _bounds(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "maximum" in field:
        return f"{field['minimum']} to {field['maximum']}"
    if "minimum" in field:
        return f"at least {field['minimum']}"
    if "maxItems" in field:
        least = field.get("minItems")
        return f"{least} to {field['maxItems']} entries" if least else f"at most {field['maxItems']} entries"
    return ""


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_is_on_the_page(path: str) -> None:
    if path in ROWS:
        return
    name = path.rpartition(".")[2]
    has_rows = any(row.startswith((f"{path}.", f"{path}[]")) for row in ROWS)
    # Small objects, such as the reference of a secret, are described in the row of their parent.
    assert has_rows or any(f"`{name}`" in meaning for _, _, meaning in ROWS.values())


@pytest.mark.parametrize("path", ROWS)
def test_a_row_has_the_default_and_the_bounds_of_its_field(path: str) -> None:
    field = FIELDS[path]
    default = field.get("default")
    if not isinstance(default, (dict, list)):
        shown = str(default).lower() if isinstance(default, bool) else default
        assert ROWS[path][0] == ("" if default is None else f"`{shown}`")
    assert ROWS[path][1] == _bounds(field)
