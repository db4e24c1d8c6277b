"""What an annotation promises of its values, read once from the schema that pydantic has made of it.

Pydantic's core schema is a tree of dicts, each with a `type`. A kind of node that is not known here promises nothing,
so a pydantic that brings new ones only makes values travel in typed form.
"""

from __future__ import annotations

import enum
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import pydantic

from taskfleet.travel import typed

SchemaNode: TypeAlias = Mapping[str, Any]
# Whether a value that pydantic would dump to JSON is one that JSON does not give back.
Hazard: TypeAlias = Callable[[Any], bool]

# How everything is dumped that does not say otherwise.
JSON_CONFIG = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")
OPAQUE = frozenset(
    (
        "config",
        "metadata",
        "serialization",
        "default",
        "default_factory",
        "expected",
        "members",
        "function",
        "cls",
        "custom_error_context",
    )
)
_LOSSLESS_CONFIG = frozenset(
    (
        "title",
        "frozen",
        "from_attributes",
        "validate_assignment",
        "validate_default",
        "populate_by_name",
        "validate_by_name",
        "extra_fields_behavior",
        "str_strip_whitespace",
        "str_to_lower",
        "str_to_upper",
        "str_min_length",
        "str_max_length",
        "allow_inf_nan",
        "hide_input_in_errors",
        "loc_by_alias",
        "regex_engine",
    )
)
# Pydantic's own functions, which change nothing in a value that they have made.
_HARMLESS_MODULES = ("pydantic._internal", "pydantic.networks", "ipaddress")
_HARMLESS = frozenset(("SecretStr", "SecretBytes"))


_CONSTRAINTS = frozenset(
    (
        *("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern", "max_digits"),
        *("decimal_places", "now_op", "tz_constraint", "version"),
    )
)
# Of a union of these pydantic takes the part that a value is of. Of others it may make a model of a dict, or a secret
# of a text.
_EXACT_IN_UNIONS = frozenset(
    (
        *("any", "none", "bool", "int", "float", "str", "bytes", "date", "time", "datetime", "timedelta", "decimal"),
        *("uuid", "complex", "fraction", "enum", "literal", "list", "set", "frozenset", "tuple", "dict", "nullable"),
    )
)


@dataclass(slots=True)
class Promise:
    """`classes` are those that the annotation names."""

    classes: tuple[type, ...] = ()
    json: bool = False  # JSON gives back what `hazard` does not speak against
    hazard: Hazard | None = None
    aliased: bool = False
    constrained: bool = False  # an object can have been given what the constraint of its field forbids
    objects: bool = False  # some of the values can be changed after they were validated
    whole_numbers: bool = False
    recursive: bool = False
    pure: bool = False  # nothing that validates twice changes, so messagepack's own types may go as they are
    ambiguous: bool = False  # a union of which pydantic may take another part than the one that a value is of
    impossible: str = ""  # why no value can travel


def of(schema: SchemaNode) -> Promise:
    """The promise of a core schema."""
    nodes = list(_nodes(schema))
    kinds = {node["type"] for node in nodes}
    promise = Promise(classes=_classes(nodes), pure=all(map(_is_pure, nodes)))
    promise.ambiguous = promise.pure and any(map(_is_ambiguous, nodes))
    definitions = {each["ref"]: each for node in nodes if node["type"] == "definitions" for each in node["definitions"]}
    reader = _JsonReader(definitions, promise)
    hazard = reader.read(schema, in_model=False)
    promise.json = hazard is not None
    if not kinds.isdisjoint(("model", "dataclass")):
        promise.constrained = any(not _CONSTRAINTS.isdisjoint(node) for node in nodes)
        promise.objects = True
    promise.hazard = None if hazard is _harmless else hazard
    promise.impossible = _impossible(schema)
    return promise


def _nodes(schema: Any) -> Iterator[SchemaNode]:
    """All nodes of a schema. Among the fields of a model, one may be named `type`."""
    if isinstance(schema, Mapping):
        is_node = isinstance(schema.get("type"), str)
        if is_node:
            yield schema
        for key, each in schema.items():
            if not (is_node and key in OPAQUE) and isinstance(each, (Mapping, list, tuple)):
                yield from _nodes(each)
    elif isinstance(schema, (list, tuple)):
        for each in schema:
            yield from _nodes(each)


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


def _is_exact(node: SchemaNode) -> bool:
    if node["type"] == "literal":
        return not any(each == 0 or each == 1 for each in node["expected"])  # a bool equals one of these
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


def class_of(node: SchemaNode) -> type:
    """The class of an `is-instance` node, which may be one of typing's aliases."""
    cls: Any = node["cls"]
    origin: Any = typing.get_origin(cls)
    return cast("type", origin if origin is not None else cls)


def _harmless(_: Any) -> bool:
    return False


def _is_lossless(config: Mapping[str, Any]) -> bool:
    for key, value in config.items():
        if key not in _LOSSLESS_CONFIG and JSON_CONFIG.get(key) != value:
            return False
    return config.get("extra_fields_behavior") != "allow"


class _JsonReader:
    """Looks for a reason why JSON would not give a value back: `read` is `None` when there may be one."""

    def __init__(self, definitions: Mapping[str, SchemaNode], promise: Promise) -> None:
        self._by_ref = definitions
        self._promise = promise
        self._under_way: dict[str, list[Hazard]] = {}
        self._read: dict[str, Hazard | None] = {}

    def read(self, node: SchemaNode, *, in_model: bool) -> Hazard | None:
        """What to look at in each value, if JSON gives the others back."""
        kind = node["type"]
        if "serialization" in node or (node.get("strict") and kind not in ("str", "int", "bool", "float")):
            return None
        if kind in _SCALARS:
            self._promise.whole_numbers |= kind == "int"
            return _SCALARS[kind]
        if kind == "float":
            return _not_finite if in_model and node.get("allow_inf_nan") is not False else _harmless
        reading = getattr(self, "on_" + kind.replace("-", "_"), None)
        return cast("Hazard | None", reading(node, in_model)) if reading is not None else None

    def on_definitions(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        return self.read(node["schema"], in_model=in_model)

    def on_definition_ref(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        ref = node["schema_ref"]
        if ref in self._read:
            return self._read[ref]
        if (under_way := self._under_way.get(ref)) is not None:
            self._promise.recursive = True
            return lambda value: any(look(value) for look in under_way)
        users: list[Hazard] = []
        self._under_way[ref] = users
        look = self.read(self._by_ref[ref], in_model=in_model)
        del self._under_way[ref]
        if look is not None:
            users.append(look)  # those inside look through it
        self._read[ref] = look
        return look

    def on_default(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        # Defaults are not validated, and pydantic dumps a `None` anywhere: `x: int = None`.
        if node.get("default", 0) is None and node["schema"]["type"] not in ("nullable", "none"):
            return None
        return self.read(node["schema"], in_model=in_model)

    def on_nullable(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        if node["schema"]["type"] in ("none", "any", "nullable"):
            return None
        look = self.read(node["schema"], in_model=in_model)
        if look is None or look is _harmless:
            return look
        return lambda value: value is not None and look(value)

    def on_list(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        return self._each(node.get("items_schema"), in_model)

    on_set = on_frozenset = on_list

    def on_tuple(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        looks = [self.read(each, in_model=in_model) for each in node["items_schema"]]
        found = [look for look in looks if look is not None]
        if len(found) < len(looks):
            return None
        if all(look is _harmless for look in found):
            return _harmless
        # Of a tuple of any length the one schema is for all.
        if node.get("variadic_item_index") is not None:
            return (lambda value: any(map(found[0], value))) if len(found) == 1 else None
        return lambda value: any(look(each) for look, each in zip(found, value, strict=False))

    def _each(self, items: SchemaNode | None, in_model: bool) -> Hazard | None:
        look = self.read(items, in_model=in_model) if items is not None else None
        if look is None or look is _harmless:
            return look
        if look is _not_finite:
            return lambda value: not all(map(math.isfinite, value))
        return lambda value: any(map(look, value))

    def on_dict(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        keys = node.get("keys_schema")
        if keys is None or keys["type"] not in ("str", "int", "uuid") or "serialization" in keys:
            return None
        if keys["type"] == "int" and keys.get("strict"):
            return None
        look = self._each(node.get("values_schema"), in_model)
        if look is None or look is _harmless:
            return look
        return lambda value: look(value.values())

    def on_union(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        # Of kinds that JSON tells apart.
        if any(isinstance(each, tuple) or each.keys() - {"type"} for each in node["choices"]):
            return None
        kinds = {each["type"] for each in node["choices"]}
        self._promise.whole_numbers |= "int" in kinds
        return _harmless if kinds <= {"str", "int", "bool", "none"} else None

    def on_tagged_union(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        if not isinstance(node["discriminator"], str):
            return None
        looks: dict[type, Hazard] = {}
        for choice in node["choices"].values():
            target = self._by_ref[choice["schema_ref"]] if choice["type"] == "definition-ref" else choice
            look = self.read(choice, in_model=in_model)
            if look is None or target["type"] != "model":
                return None
            looks[target["cls"]] = look
        if all(look is _harmless for look in looks.values()):
            return _harmless
        return lambda value: looks.get(type(value), _always)(value)

    def on_enum(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        values = [member.value for member in node["cls"]]
        kinds = {type(value) for value in values}
        plain = kinds in ({str}, {int}) and not issubclass(node["cls"], enum.Flag) and not node.get("missing")
        return _harmless if plain else None

    def on_literal(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        kinds = {type(each) for each in node["expected"]}
        return _harmless if kinds <= {str, int, type(None)} or kinds <= {str, bool, type(None)} else None

    def on_model(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        if node.get("custom_init") or node.get("post_init") or node.get("extra_behavior") == "allow":
            return None
        if getattr(node["cls"], "__private_attributes__", None) or not _is_lossless(node.get("config") or {}):
            return None
        if node.get("root_model"):
            look = self.read(node["schema"], in_model=True)
            if look is None or look is _harmless:
                return look
            return lambda value: look(value.root)
        return self.read(node["schema"], in_model=True)

    def on_model_fields(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        if node.get("extras_schema") or node.get("extra_behavior") == "allow":
            return None
        return self._fields(node["fields"], getattr)

    def on_typed_dict(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        if node.get("extras_schema") or node.get("extra_behavior") == "allow" or node.get("config"):
            return None
        return self._fields(node["fields"], lambda value, name: value.get(name))

    def on_dataclass(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        lossless = _is_lossless(node.get("config") or {})
        if node.get("post_init") or not lossless or node["schema"]["type"] != "dataclass-args":
            return None
        fields = node["schema"]["fields"]
        if any(not each.get("init", True) or each.get("init_only") for each in fields):
            return None
        return self._fields({each["name"]: each for each in fields}, getattr)

    def _fields(self, fields: Mapping[str, SchemaNode], get: Callable[[Any, str], Any]) -> Hazard | None:
        found: list[tuple[str, Hazard]] = []
        for name, each in fields.items():
            alias, dumped = each.get("validation_alias"), each.get("serialization_alias")
            if each.get("serialization_exclude") or each.get("serialization_exclude_if") or alias != dumped:
                return None
            if alias is not None:
                if not isinstance(alias, str) or alias in fields:
                    return None
                self._promise.aliased = True
            look = self.read(each["schema"], in_model=True)
            if look is None:
                return None
            if look is not _harmless:
                found.append((name, look))
        if not found:
            return _harmless

        def look_into(value: Any) -> bool:
            for name, look in found:  # noqa: SIM110 - for each task: a generator takes as long again
                if look(get(value, name)):
                    return True
            return False

        return look_into


def _always(_: Any) -> bool:
    return True


def _not_finite(value: Any) -> bool:
    """In the JSON of a model it is `null`."""
    return value is not None and not math.isfinite(value)


def _has_zone(value: Any) -> bool:
    """JSON has an offset in minutes in place of a zone, and no second 2:30 of the night when clocks go back."""
    if value is None:
        return False
    zone = value.tzinfo
    if zone is None:
        return bool(value.fold)
    offset = zone.utcoffset(None)
    return bool(value.fold) or offset is None or offset.seconds % 60 != 0 or offset.microseconds != 0


_SCALARS: dict[str, Hazard] = {
    "none": _harmless,
    "bool": _harmless,
    "int": _harmless,
    "str": _harmless,
    "bytes": _harmless,
    "decimal": _harmless,
    "date": _harmless,
    "timedelta": _harmless,
    "uuid": _harmless,
    "datetime": _has_zone,
    "time": _has_zone,
}
