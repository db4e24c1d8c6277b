"""The promise of an annotation about its values, read once from pydantic's schema of it.

A kind of node that is unknown here promises nothing. So new kinds of a later pydantic only cause values to be sent in
typed form.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import pydantic

from taskfleet.travel import typed
from taskfleet.travel.json_promise import Hazard, JsonReader, harmless
from taskfleet.travel.schema import SchemaNode, class_of, nodes_of

# Pydantic's own functions, which leave a value unchanged that they have made.
_HARMLESS_MODULES = ("pydantic._internal", "pydantic.networks", "ipaddress")
_HARMLESS = frozenset(("SecretStr", "SecretBytes"))


_CONSTRAINTS = frozenset(
    (
        *("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "max_digits"),
        *("decimal_places", "now_op", "tz_constraint", "version"),
    )
)
# In a union of these, pydantic takes the part that has the value's type. In others it may make a model of a dict, or a
# secret of a text.
_EXACT_IN_UNIONS = frozenset(
    (
        *("any", "none", "bool", "int", "float", "str", "bytes", "date", "time", "datetime", "timedelta", "decimal"),
        *("uuid", "complex", "fraction", "enum", "literal", "list", "set", "frozenset", "tuple", "dict", "nullable"),
    )
)


@dataclass(slots=True)
class Promise:
    """The promise of one annotation. `classes` are the classes that it names."""

    classes: tuple[type, ...] = ()
    json: bool = False  # a value comes back equal from JSON unless `hazard` is true of it
    hazard: Hazard | None = None
    aliased: bool = False
    constrained: bool = False  # an object may hold a value that the constraint of its field forbids
    objects: bool = False  # some values can change after their validation
    whole_numbers: bool = False
    recursive: bool = False
    pure: bool = False  # a second validation has no effect, so messagepack's own types need no encoding
    ambiguous: bool = False  # a union of which pydantic may take another part than that of the value's type
    impossible: str = ""  # the reason why no value can be sent


def of(schema: SchemaNode) -> Promise:
    """The promise of a core schema."""
    nodes = list(nodes_of(schema))
    kinds = {node["type"] for node in nodes}
    promise = Promise(classes=_classes(nodes), pure=all(map(_is_pure, nodes)))
    # Where validators change values, only a dict can be told from what pydantic makes of it.
    promise.ambiguous = any(map(_is_ambiguous if promise.pure else _is_of_models_and_dicts, nodes))
    definitions = {each["ref"]: each for node in nodes if node["type"] == "definitions" for each in node["definitions"]}
    reader = JsonReader(definitions)
    hazard = reader.read(schema, in_model=False)
    promise.json = hazard is not None
    promise.whole_numbers, promise.recursive, promise.aliased = reader.whole_numbers, reader.recursive, reader.aliased
    if not kinds.isdisjoint(("model", "dataclass")):
        promise.constrained = any(not _CONSTRAINTS.isdisjoint(node) for node in nodes)
        promise.objects = True
    promise.hazard = None if hazard is harmless else hazard
    promise.impossible = _impossible(schema)
    return promise


def _classes(nodes: list[SchemaNode]) -> tuple[type, ...]:
    found: dict[type, None] = {}
    for node in nodes:
        kind = node["type"]
        if kind in ("model", "dataclass", "enum", "named-tuple"):
            found[node["cls"]] = None
        elif kind == "call" and hasattr(node["function"], "_fields"):
            found[node["function"]] = None
        elif kind == "literal":
            found |= dict.fromkeys(type(each) for each in node["expected"] if isinstance(each, enum.Enum))
    return tuple(found)


def _is_pure(node: SchemaNode) -> bool:
    if node["type"] == "json":
        return False
    if not node["type"].startswith("function"):
        return True
    function = node["function"]
    function = function.get("function") if isinstance(function, Mapping) else function
    function = getattr(function, "func", function)
    module = getattr(function, "__module__", None) or ""
    return module.startswith(_HARMLESS_MODULES) or (
        module == "pydantic.types" and getattr(function, "__name__", "") in _HARMLESS
    )


def _is_ambiguous(node: SchemaNode) -> bool:
    if node["type"] != "union":
        return False
    return not all(_is_exact(each[0] if isinstance(each, tuple) else each) for each in node["choices"])


def _is_of_models_and_dicts(node: SchemaNode) -> bool:
    if node["type"] != "union":
        return False
    kinds = {_unwrapped(each[0] if isinstance(each, tuple) else each)["type"] for each in node["choices"]}
    return "dict" in kinds and "model" in kinds


def _unwrapped(node: SchemaNode) -> SchemaNode:
    """The schema inside the validators around it."""
    while node["type"].startswith("function") and "schema" in node:
        node = node["schema"]
    return node


def _is_exact(node: SchemaNode) -> bool:
    if node["type"] == "literal":
        return not any(each == 0 or each == 1 for each in node["expected"])  # a bool equals these
    return node["type"] in _EXACT_IN_UNIONS


def _impossible(node: SchemaNode) -> str:
    kind = node["type"]
    if kind == "callable":
        return "a function cannot travel"
    if kind == "is-subclass":
        return "a class cannot travel"
    if kind == "generator":
        return "an iterator is used up by reading it; annotate a list"
    if kind == "is-instance":
        cls = class_of(node)
        if not any(issubclass(each, cls) for each in typed.TYPES):
            return f"pydantic does not know how to dump a {cls.__qualname__}"
        return ""
    if kind == "model" and node["cls"] is pydantic.BaseModel:
        return "it names no model; annotate the class, or a union of classes"
    if kind == "union":
        reasons = [_impossible(each[0] if isinstance(each, tuple) else each) for each in node["choices"]]
        return reasons[0] if all(reasons) else ""
    if kind == "model-fields":
        return next((f"{name}: {why}" for name, each in node["fields"].items() if (why := _impossible(each))), "")
    if kind == "tuple":
        return next((why for each in node["items_schema"] if (why := _impossible(each))), "")
    if kind == "dict":
        parts = [node[part] for part in ("keys_schema", "values_schema") if node.get(part)]
        return next((why for part in parts if (why := _impossible(part))), "")
    if kind in ("definitions", "model", "model-field", "list", "set", "frozenset"):
        inner = node.get("items_schema") or node.get("schema")
        return _impossible(inner) if inner else ""
    return ""
