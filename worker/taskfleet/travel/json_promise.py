"""Decides from a schema whether pydantic's JSON of a value loads as an equal value."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import pydantic

from taskfleet.travel.schema import SchemaNode

# Whether a value would not come back equal from JSON.
Hazard: TypeAlias = Callable[[Any], bool]

# The configuration of every type without a config.
JSON_CONFIG = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")
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


def harmless(_: Any) -> bool:
    return False


def _is_lossless(config: Mapping[str, Any]) -> bool:
    for key, value in config.items():
        if key not in _LOSSLESS_CONFIG and JSON_CONFIG.get(key) != value:
            return False
    return config.get("extra_fields_behavior") != "allow"


class JsonReader:
    """Looks for reasons why a value would not load equal from JSON; `read` is `None` where any value may not.

    It also notes whether values may hold large whole numbers, themselves, or fields with an alias.
    """

    def __init__(self, definitions: Mapping[str, SchemaNode]) -> None:
        self._by_ref = definitions
        self.whole_numbers = False
        self.recursive = False
        self.aliased = False
        self._under_way: dict[str, list[Hazard]] = {}
        self._read: dict[str, Hazard | None] = {}

    def read(self, node: SchemaNode, *, in_model: bool) -> Hazard | None:
        """The check of each value, if all values that pass it come back equal."""
        kind = node["type"]
        if "serialization" in node or (node.get("strict") and kind not in ("str", "int", "bool", "float")):
            return None
        if kind in _SCALARS:
            self.whole_numbers |= kind == "int"
            return _SCALARS[kind]
        if kind == "float":
            return _not_finite if in_model and node.get("allow_inf_nan") is not False else harmless
        reading = getattr(self, "on_" + kind.replace("-", "_"), None)
        return cast("Hazard | None", reading(node, in_model)) if reading is not None else None

    def on_definitions(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        return self.read(node["schema"], in_model=in_model)

    def on_definition_ref(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        ref = node["schema_ref"]
        if ref in self._read:
            return self._read[ref]
        if (under_way := self._under_way.get(ref)) is not None:
            self.recursive = True
            return lambda value: any(look(value) for look in under_way)
        users: list[Hazard] = []
        self._under_way[ref] = users
        look = self.read(self._by_ref[ref], in_model=in_model)
        del self._under_way[ref]
        if look is not None:
            users.append(look)  # for references to this node inside it
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
        if look is None or look is harmless:
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
        if all(look is harmless for look in found):
            return harmless
        # A tuple of any length has one schema for all items.
        if node.get("variadic_item_index") is not None:
            return (lambda value: any(map(found[0], value))) if len(found) == 1 else None
        return lambda value: any(look(each) for look, each in zip(found, value, strict=False))

    def _each(self, items: SchemaNode | None, in_model: bool) -> Hazard | None:
        look = self.read(items, in_model=in_model) if items is not None else None
        if look is None or look is harmless:
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
        if look is None or look is harmless:
            return look
        return lambda value: look(value.values())

    def on_union(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        # Only kinds that JSON distinguishes.
        if any(isinstance(each, tuple) or each.keys() - {"type"} for each in node["choices"]):
            return None
        kinds = {each["type"] for each in node["choices"]}
        self.whole_numbers |= "int" in kinds
        return harmless if kinds <= {"str", "int", "bool", "none"} else None

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
        if all(look is harmless for look in looks.values()):
            return harmless
        return lambda value: looks.get(type(value), _always)(value)

    def on_enum(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        values = [member.value for member in node["cls"]]
        kinds = {type(value) for value in values}
        plain = kinds in ({str}, {int}) and not issubclass(node["cls"], enum.Flag) and not node.get("missing")
        return harmless if plain else None

    def on_literal(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        kinds = {type(each) for each in node["expected"]}
        return harmless if kinds <= {str, int, type(None)} or kinds <= {str, bool, type(None)} else None

    def on_model(self, node: SchemaNode, in_model: bool) -> Hazard | None:
        if node.get("custom_init") or node.get("post_init") or node.get("extra_behavior") == "allow":
            return None
        if getattr(node["cls"], "__private_attributes__", None) or not _is_lossless(node.get("config") or {}):
            return None
        if node.get("root_model"):
            look = self.read(node["schema"], in_model=True)
            if look is None or look is harmless:
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
                self.aliased = True
            look = self.read(each["schema"], in_model=True)
            if look is None:
                return None
            if look is not harmless:
                found.append((name, look))
        if not found:
            return harmless

        def look_into(value: Any) -> bool:
            for name, look in found:  # noqa: SIM110 - for each task: a generator takes as long again
                if look(get(value, name)):
                    return True
            return False

        return look_into


def _always(_: Any) -> bool:
    return True


def _not_finite(value: Any) -> bool:
    """Whether it is infinity or nan, for which the JSON of a model has `null`."""
    return value is not None and not math.isfinite(value)


def _has_zone(value: Any) -> bool:
    """Whether it has a zone, for which JSON has an offset in minutes, and does not tell the two 2:30 at a change."""
    if value is None:
        return False
    zone = value.tzinfo
    if zone is None:
        return bool(value.fold)
    offset = zone.utcoffset(None)
    return bool(value.fold) or offset is None or offset.seconds % 60 != 0 or offset.microseconds != 0


_SCALARS: dict[str, Hazard] = {
    "none": harmless,
    "bool": harmless,
    "int": harmless,
    "str": harmless,
    "bytes": harmless,
    "decimal": harmless,
    "date": harmless,
    "timedelta": harmless,
    "uuid": harmless,
    "datetime": _has_zone,
    "time": _has_zone,
}
