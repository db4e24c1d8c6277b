"""docs/reference/taskqueue.md has every field of the resource, as `make crd` writes it from the models."""

from __future__ import annotations

import re

import pytest

from taskfleet_operator.children import children_of
from taskfleet_operator.resource import field_tables
from taskfleet_operator.resource.manifest import parse
from tests.support.documented import DOCS, documented

PAGE = (DOCS / "reference" / "taskqueue.md").read_text(encoding="utf-8")
MARKED = set(re.findall(r"<!-- [\w ]*fields of ([\w.\[\]]+) -->", PAGE))
FIELDS = [
    (root, path)
    for root in ("spec", "status")
    for path, _, _ in field_tables.fields_below(field_tables.schema_at(root))
]


def test_the_tables_are_current() -> None:
    assert field_tables.render(PAGE) == PAGE, "run `make crd`"


@pytest.mark.parametrize(("root", "path"), FIELDS, ids=lambda value: value)
def test_every_field_is_on_the_page(root: str, path: str) -> None:
    parts = f"{root}.{path}".split(".")
    tables = {".".join(parts[:length]): ".".join(parts[length:]) for length in range(1, len(parts))}
    section = next(name for name in sorted(tables, key=len, reverse=True) if name in MARKED)
    table = re.search(rf"fields of {re.escape(section)} -->(.*?)<!-- end", PAGE, re.DOTALL)
    assert table is not None
    (row,) = [line for line in table[1].splitlines() if line.startswith(f"| `{tables[section]}` |")]
    assert not row.endswith("|  |"), "a field without a meaning"


@pytest.mark.parametrize("name", documented())
def test_a_manifest_of_the_documentation_is_valid_and_can_be_built(name: str) -> None:
    assert children_of(parse(documented()[name], name))
