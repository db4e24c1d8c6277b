"""Whether a value fits an annotation, part by part, without running validators of the application.

A value from typed form has its types already; this checks that they are the annotated ones. The check is made from
pydantic's core schema. It accepts every value that a validator of the application handles, since only the validator can
judge it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import pydantic
from pydantic_core import CoreSchema, SchemaValidator

from taskfleet.travel.problems import UnfitError
from taskfleet.travel.schema import OPAQUE, SchemaNode, class_of

Check: TypeAlias = Callable[[Any], None]
_MISSING: Any = object()


def check_of(schema: SchemaNode, *, certain: bool = False) -> Check:
    """A function that raises `UnfitError` for a value that does not fit, and names the part.

    With `certain`, a value that only a validator could check does not pass.
    """
    return _CheckCompiler(_uncertain if certain else _anything).check(schema)


def revalidator(schema: SchemaNode) -> SchemaValidator:
    """A validator that checks the attributes of objects too, where pydantic's own only checks their class."""
    return SchemaValidator(cast("CoreSchema", _with_checked_attributes(schema)))


def _with_checked_attributes(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return type(node)(map(_with_checked_attributes, node))
    if not isinstance(node, Mapping):
        return node
    copied = {key: each if key in OPAQUE else _with_checked_attributes(each) for key, each in node.items()}
    if copied.get("type") == "model" and not copied.get("root_model"):
        # Pydantic would use the validator of the class instead of this one.
        reference = {"ref": copied["ref"]} if "ref" in copied else {}
        return copied["schema"] | {"from_attributes": True} | reference
    if copied.get("type") == "dataclass":
        copied |= {"revalidate_instances": "always", "generic_origin": copied["cls"]}
    return copied


def _is_of_sequence(node: SchemaNode) -> bool:
    """Whether this node is pydantic's validator of a `Sequence`, which restores the type of the sequence."""
    return (
        node["type"] == "function-wrap"
        and _is_pydantics(node)
        and node["schema"]["type"] == "list"
        and "items_schema" in node["schema"]
    )


def _is_pydantics(node: SchemaNode) -> bool:
    """Whether a validator is one of pydantic's own."""
    made = node["function"].get("function")
    made = made.func if isinstance(made, functools.partial) else made
    return getattr(made, "__module__", "") == "pydantic._internal._validators"


def _anything(_: Any) -> None:
    return None


def _uncertain(_: Any) -> None:
    raise UnfitError("only a validator can tell")


class _CheckCompiler:
    def __init__(self, unknown: Check) -> None:
        self._unknown = unknown
        self._by_ref: dict[str, Check] = {}

    def check(self, node: SchemaNode) -> Check:
        kind: str = node["type"]
        making = getattr(self, "on_" + kind.replace("-", "_"), None)
        if making is not None:
            check: Check = making(node)
        elif kind in _LEAVES:
            check = _leaf(node, _LEAVES[kind])
        else:
            check = _anything if kind == "any" else self._unknown
        if (ref := node.get("ref")) is not None:
            self._by_ref[ref] = check
        return check

    def on_definitions(self, node: SchemaNode) -> Check:
        for each in node["definitions"]:
            self.check(each)
        return self.check(node["schema"])

    def on_definition_ref(self, node: SchemaNode) -> Check:
        ref: str = node["schema_ref"]
        return lambda value: self._by_ref[ref](value)

    def on_function_before(self, node: SchemaNode) -> Check:
        return self.check(node["schema"]) if self._unknown is _anything else self._unknown

    def on_function_wrap(self, node: SchemaNode) -> Check:
        # Pydantic's validator of a defaultdict.
        return self.check(node["schema"]) if _is_pydantics(node) and node["schema"]["type"] == "dict" else self._unknown

    def on_function_after(self, node: SchemaNode) -> Check:
        made = node["function"].get("function")
        return self._instance(made) if isinstance(made, type) else self._unknown

    def on_default(self, node: SchemaNode) -> Check:
        check, default = self.check(node["schema"]), node.get("default", _MISSING)
        if default is _MISSING:
            return check

        def look(value: Any) -> None:
            # A default need not fit its annotation: `x: int = None`.
            if value is not default:
                try:
                    check(value)
                except UnfitError:
                    if type(value) is not type(default) or value != default:
                        raise

        return look

    def on_nullable(self, node: SchemaNode) -> Check:
        check = self.check(node["schema"])
        return lambda value: None if value is None else check(value)

    def on_union(self, node: SchemaNode) -> Check:
        return _any_of([self.check(each[0] if isinstance(each, tuple) else each) for each in node["choices"]])

    def on_tagged_union(self, node: SchemaNode) -> Check:
        return _any_of([self.check(each) for each in node["choices"].values() if isinstance(each, Mapping)])

    def on_lax_or_strict(self, node: SchemaNode) -> Check:
        return _any_of([self.check(node["strict_schema"]), self.check(node["lax_schema"])])

    def on_json_or_python(self, node: SchemaNode) -> Check:
        return self.check(node["python_schema"])

    def on_chain(self, node: SchemaNode) -> Check:
        first, *others = node["steps"]
        if len(others) == 1 and _is_of_sequence(others[0]):
            return self._sequence(self.check(first), self.check(others[0]["schema"]["items_schema"]))
        known = first["type"] == "is-instance" and self._unknown is _anything
        return self.check(first) if known else self._unknown

    def _sequence(self, check: Check, item: Check) -> Check:
        def look(value: Any) -> None:
            check(value)
            if not isinstance(value, str):  # the items of a text are texts
                for at, each in enumerate(value):
                    _inside(at, item, each)

        return look

    def on_list(self, node: SchemaNode) -> Check:
        return self._each(node, list)

    def on_set(self, node: SchemaNode) -> Check:
        return self._each(node, set)

    def on_frozenset(self, node: SchemaNode) -> Check:
        return self._each(node, frozenset)

    def on_deque(self, node: SchemaNode) -> Check:
        return self._each(node, deque)

    def _each(self, node: SchemaNode, cls: type) -> Check:
        items = node.get("items_schema")
        check = self.check(items) if items else _anything
        shortest, longest = node.get("min_length") or 0, node.get("max_length")

        def look(value: Any) -> None:
            _same_type(value, cls)
            _sized(value, shortest, longest)
            if check is not _anything:
                for at, each in enumerate(value):
                    _inside(at, check, each)

        return look

    def on_tuple(self, node: SchemaNode) -> Check:
        checks = [self.check(each) for each in node["items_schema"]]
        variadic = node.get("variadic_item_index")
        shortest, longest = node.get("min_length") or 0, node.get("max_length")

        def look(value: Any) -> None:
            _same_type(value, tuple)
            wanted = checks
            if variadic is not None:
                more = max(0, len(value) - len(checks) + 1)
                wanted = [*checks[:variadic], *[checks[variadic]] * more, *checks[variadic + 1 :]]
            if len(value) != len(wanted):
                raise UnfitError(f"a tuple of {len(value)} parts where {len(wanted)} are annotated")
            _sized(value, shortest, longest)
            for at, (check, each) in enumerate(zip(wanted, value, strict=True)):
                _inside(at, check, each)

        return look

    def on_dict(self, node: SchemaNode) -> Check:
        keys, values = (
            self.check(node[part]) if node.get(part) else _anything for part in ("keys_schema", "values_schema")
        )
        shortest, longest = node.get("min_length") or 0, node.get("max_length")

        def look(value: Any) -> None:
            # An annotated Mapping keeps the type of the value.
            if not isinstance(value, Mapping):
                raise UnfitError(f"a {type(value).__qualname__} where a dict is annotated")
            _sized(value, shortest, longest)
            for key, each in value.items():
                keys(key)
                _inside(key, values, each)

        return look

    on_ordered_dict = on_counter = on_dict

    def on_typed_dict(self, node: SchemaNode) -> Check:
        fields = {
            name: (self.check(each["schema"]), each.get("required", True)) for name, each in node["fields"].items()
        }
        open_ended = node.get("extra_behavior") == "allow" or node.get("extras_schema") is not None

        def look(value: Any) -> None:
            _same_type(value, dict)
            for name, (check, required) in fields.items():
                if name in value:
                    _inside(name, check, value[name])
                elif required:
                    raise UnfitError(f"{name}: it is missing")
            if not open_ended and (unknown := value.keys() - fields.keys()):
                raise UnfitError(f"{min(unknown, key=str)}: it is not annotated")

        return look

    def on_model(self, node: SchemaNode) -> Check:
        cls, inner = node["cls"], node["schema"]
        if node.get("root_model"):
            return self._object(cls, {"root": self.check(inner)})
        while inner["type"] != "model-fields" and isinstance(inner.get("schema"), Mapping):
            inner = inner["schema"]  # unwrap its validators
        fields = inner["fields"] if inner["type"] == "model-fields" else {}
        return self._object(cls, {name: self.check(each["schema"]) for name, each in fields.items()})

    def on_dataclass(self, node: SchemaNode) -> Check:
        inner = node["schema"]
        while inner["type"] != "dataclass-args" and isinstance(inner.get("schema"), Mapping):
            inner = inner["schema"]
        fields = inner["fields"] if inner["type"] == "dataclass-args" else []
        return self._object(
            node["cls"], {each["name"]: self.check(each["schema"]) for each in fields if not each.get("init_only")}
        )

    def _object(self, cls: type, checks: dict[str, Check]) -> Check:
        def look(value: Any) -> None:
            _same_type(value, cls)
            for name, check in checks.items():
                each = getattr(value, name, _MISSING)
                if each is _MISSING:
                    raise UnfitError(f"{name}: it is missing")
                if check is not _anything:
                    _inside(name, check, each)

        return look

    def on_named_tuple(self, node: SchemaNode) -> Check:
        cls: type = node["cls"]
        checks = [self.check(each["schema"]) for each in node["fields"]]

        def look(value: Any) -> None:
            _same_type(value, cls)
            for at, (check, each) in enumerate(zip(checks, value, strict=True)):
                _inside(at, check, each)

        return look

    def on_enum(self, node: SchemaNode) -> Check:
        return lambda value: _same_type(value, node["cls"])

    def on_is_instance(self, node: SchemaNode) -> Check:
        return self._instance(class_of(node))

    def _instance(self, cls: type) -> Check:
        def look(value: Any) -> None:
            if not isinstance(value, cls):
                raise UnfitError(f"a {type(value).__qualname__} where {cls.__qualname__} is annotated")

        return look


# Types that pydantic checks itself, constraints included, and the exact type of a value, if there is one.
_LEAVES: dict[str, type | None] = {
    "none": type(None),
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "bytes": bytes,
    "date": None,
    "time": None,
    "datetime": None,
    "timedelta": None,
    "uuid": None,
    "literal": None,
    "complex": complex,
}


def _leaf(node: SchemaNode, cls: type | None) -> Check:
    if cls is not None and node.keys() <= {"type", "metadata", "serialization", "strict"}:
        return functools.partial(_check_type, cls)
    validator = SchemaValidator(cast("CoreSchema", {key: each for key, each in node.items() if key != "ref"}))

    def look(value: Any) -> None:
        if cls is not None:
            _same_type(value, cls)
        try:
            validator.validate_python(value, strict=True)
        except pydantic.ValidationError as error:
            raise UnfitError(error.errors(include_url=False)[0]["msg"]) from None

    return look


def _check_type(cls: type, value: Any) -> None:
    if type(value) is not cls:
        _same_type(value, cls)


def _same_type(value: Any, cls: type) -> None:
    if type(value) is not cls:
        lost = ": what it adds would be lost" if isinstance(value, cls) and _is_object(cls) else ""
        raise UnfitError(f"a {type(value).__qualname__} where {cls.__qualname__} is annotated{lost}")


def _is_object(cls: type) -> bool:
    return issubclass(cls, pydantic.BaseModel) or dataclasses.is_dataclass(cls)


def _sized(value: Any, shortest: int, longest: int | None) -> None:
    if len(value) < shortest or (longest is not None and len(value) > longest):
        raise UnfitError(f"it has {len(value)} items, not {shortest} to {'any number' if longest is None else longest}")


def _inside(part: Any, check: Check, value: Any) -> None:
    try:
        check(value)
    except UnfitError as error:
        raise UnfitError(f"{str(part)[:80]}: {error}") from None


def _any_of(checks: list[Check]) -> Check:
    if any(check is _anything for check in checks):
        return _anything

    def look(value: Any) -> None:
        problems: list[str] = []
        for check in checks:
            try:
                check(value)
            except UnfitError as error:
                problems.append(str(error))
            else:
                return
        raise UnfitError(problems[0] if len(set(problems)) == 1 else f"it fits no part of the union: {problems[0]}")

    return look
