"""The tables of docs/reference/taskqueue.md, generated from the models like the CRD.

`python -m taskfleet_operator.resource.field_tables FILE` writes them into a page, between its marks
`<!-- fields of spec.redis -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .crd import COLUMNS, Schema, definition

_MARK = re.compile(r"(<!-- ([\w ]+) of ([\w.\[\]]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def render(page: str) -> str:
    """The page with current tables."""
    return _MARK.sub(lambda found: f"{found[1]}\n{_table(found[2], found[3])}\n\n{found[4]}", page)


def _table(what: str, path: str) -> str:
    rows = {"fields": _fields, "own fields": _own_fields, "rules": _rules, "columns": _columns}[what](path)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def schema_at(path: str) -> Schema:
    """The schema of a field, such as `spec.queues[].name`."""
    schema: Schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in path.split("."):
        schema = schema["properties"][part.removesuffix("[]")]
        if part.endswith("[]"):
            schema = schema["items"]
    return schema


def fields_below(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Every field with a value of its own, with its path and whether it is required. A reference is one field."""
    for name, field in schema.get("properties", {}).items():
        required = name in schema.get("required", ())
        inner = field.get("items", field)
        if "properties" in inner and not _is_reference(inner) and not _is_open(inner):
            yield from fields_below(inner, f"{path}{name}{'[]' if 'items' in field else ''}.")
        else:
            yield path + name, field, required


def _is_reference(schema: Schema) -> bool:
    return set(schema["properties"]) == {"name", "key"}


def _is_open(schema: Schema) -> bool:
    return any("x-kubernetes-preserve-unknown-fields" in one for one in schema["properties"].values()) and (
        "name" not in schema["properties"]
    )


def _fields(path: str, *, nested: bool = True) -> Iterator[tuple[str, ...]]:
    yield ("field", "default", "values", "meaning")
    yield ("---",) * 4
    schema = schema_at(path)
    lists = {f"{name}[]" for name in schema["properties"]}
    for name, field, required in fields_below(schema):
        if nested or (("." not in name) and name not in lists):
            yield (f"`{name}`", _default(field, required), _values(field), _text(field["description"]))


def _own_fields(path: str) -> Iterator[tuple[str, ...]]:
    """Those that are no block of further fields."""
    return _fields(path, nested=False)


def _default(field: Schema, required: bool) -> str:
    if required:
        return "required"
    default = field.get("default")
    if default is None:
        return ""
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list) and default:
        return ", ".join("`" + " ".join(str(value) for value in one.values()) + "`" for one in default)
    return f"`{default}`" if default != "" else '`""`'


def _values(field: Schema) -> str:
    inner = field.get("items", {})
    if "properties" in field and _is_reference(field):
        return "`name` and `key` of a secret"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("x-kubernetes-int-or-string"):
        return "a number, or a percentage"
    if "maximum" in field:
        return f"{field['minimum']} to {field['maximum']}"
    if "maxItems" in field:
        least = field.get("minItems")
        kind = " of `host:port`" if inner.get("type") == "string" else ""
        return f"{least} to {field['maxItems']}{kind}" if least else f"at most {field['maxItems']}{kind}"
    if "maxProperties" in field:
        return f"at most {field['maxProperties']} keys"
    if field.get("type") == "boolean":
        return "`true`, `false`"
    if field.get("type") == "string" and "maxLength" in field:
        return f"text, at most {field['maxLength']} characters"
    return ""


def _rules(path: str) -> Iterator[tuple[str, ...]]:
    yield ("field", "what the API server says to a manifest that breaks the rule")
    yield ("---",) * 2

    def walk(schema: Schema, at: str) -> Iterator[tuple[str, ...]]:
        for rule in schema.get("x-kubernetes-validations", ()):
            yield (f"`{at}{rule.get('fieldPath', '')}`", _text(rule["message"]))
        for name, field in schema.get("properties", {}).items():
            yield from walk(field, f"{at}.{name}")
            yield from walk(field.get("items", {}), f"{at}.{name}[]")

    yield from walk(schema_at(path), path)


def _columns(_: str) -> Iterator[tuple[str, ...]]:
    yield ("column", "field", "shown")
    yield ("---",) * 3
    for name, _kind, path, priority in COLUMNS:
        yield (name, f"`{path}`", "with `-o wide`" if priority else "always")


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(render(file.read_text(encoding="utf-8")), encoding="utf-8")
