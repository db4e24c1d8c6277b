"""What the API server does to a manifest before the rules: unknown fields, defaults, types and bounds.

Every rule comes from the CRD's own schema, so there is one source for both. Commands without an API server use it, and
tests/controlplane/test_validation_parity.py feeds both with the same manifests.
"""

from __future__ import annotations

import copy
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from . import crd
from .patterns import matches

Problem = tuple[str, str]
"""The path of a field, and what is wrong with it."""

_TEXT: crd.Schema = {"type": "string"}
_NUMBER: crd.Schema = {"type": "integer", "maximum": 2**63 - 1, "minimum": -(2**63)}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_LABEL = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_DNS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/
_METADATA: crd.Schema = {
    "type": "object",
    "properties": {
        "name": {**_TEXT, "maxLength": 253},
        "generateName": _TEXT,
        "namespace": {**_TEXT, "maxLength": 63, "pattern": f"^{_DNS}$"},
        "labels": {"type": "object", "additionalProperties": {**_TEXT, "maxLength": 63, "pattern": _LABEL}},
        "annotations": {"type": "object", "additionalProperties": _TEXT},
        "finalizers": {"type": "array", "items": _TEXT},
        "ownerReferences": {"type": "array", "items": _OPEN},
        "managedFields": {"type": "array", "items": _OPEN},
        **dict.fromkeys(("selfLink", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"), _TEXT),
        **dict.fromkeys(("generation", "deletionGracePeriodSeconds"), _NUMBER),
    },
}
_QUALIFIED = rf"^({_DNS}(\.{_DNS})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"


@functools.cache
def _schema() -> crd.Schema:
    served: crd.Schema = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return {**served, "properties": {**served["properties"], "metadata": _METADATA}}


def admit(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The manifest with its defaults, and what the API server would not take. The document stays as it is."""
    found = copy.deepcopy(dict(document))
    problems = [*_unknown(found, _schema(), "")]
    found.pop("status", None)  # the API server drops it, because it is a subresource
    _default(found, _schema())
    _name(found.get("metadata"))
    problems += _invalid(found, _schema(), "")
    problems += _bad_metadata(found.get("metadata"))
    return found, problems


def _unknown(value: Any, schema: crd.Schema, path: str) -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, inner in value.items():
            below = _property(schema, key)
            if below is not None:
                yield from _unknown(inner, below, _join(path, key))
            elif not _is_open(schema):
                near = difflib.get_close_matches(str(key)[:255], schema.get("properties", ()), 1)
                remedy = f"did you mean {near[0]!r}?" if near else "check its spelling"
                yield _join(path, key), f"is not a field of the resource; {remedy}"
    elif isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            yield from _unknown(inner, schema["items"], f"{path}[{index}]")


def _default(value: Any, schema: crd.Schema) -> None:
    """Fill in the defaults. A `null` where none is allowed is the default, or else as good as absent."""
    if isinstance(value, dict):
        for key, below in schema.get("properties", {}).items():
            if value.get(key) is None and "default" in below:
                value[key] = copy.deepcopy(below["default"])
        for key in [key for key, inner in value.items() if inner is None and _property(schema, key) is not None]:
            del value[key]
        for key, inner in value.items():
            _default(inner, _property(schema, key) or {})
    elif isinstance(value, list):
        for inner in value:
            _default(inner, schema.get("items", {}))


def _invalid(value: Any, schema: crd.Schema, path: str) -> Iterator[Problem]:
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, str) or _is_whole(value)
        if not fits:
            yield path, f"must be a number or a string, not {_a(value)}"
            return
    elif (kind := schema.get("type")) is not None and not _KINDS[kind](value):
        yield path, f"must be {_NAMES[kind]}, not {_a(value)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"must be one of {', '.join(map(str, schema['enum']))}, not {value!r}"
    yield from _out_of_bounds(value, schema, path)
    if isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                yield _join(path, key), "is required"
        for key, inner in value.items():
            below = _property(schema, key)
            if below is not None:
                yield from _invalid(inner, below, _join(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _invalid(inner, schema.get("items", {}), f"{path}[{index}]")
        yield from _twice(value, schema, path)


_SIZES: dict[str, tuple[type[Any], str]] = {
    "Length": (str, "characters"),
    "Items": (list, "entries"),
    "Properties": (dict, "keys"),
}


def _out_of_bounds(value: Any, schema: crd.Schema, path: str) -> Iterator[Problem]:
    for suffix, (kind, things) in _SIZES.items():
        if isinstance(value, kind):
            least, most = schema.get(f"min{suffix}", 0), schema.get(f"max{suffix}")
            if len(value) < least:
                yield path, f"must have at least {least} {things}"
            if most is not None and len(value) > most:
                yield path, f"must have at most {most} {things}, not {len(value)}"
    if isinstance(value, str):
        pattern = schema.get("pattern")
        if pattern is not None and not matches(pattern, value):
            yield path, f"{value!r} does not match {pattern}"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield path, f"must be at least {schema['minimum']}, not {value}"
        if "maximum" in schema and value > schema["maximum"]:
            yield path, f"must be at most {schema['maximum']}, not {value}"


def _twice(value: list[Any], schema: crd.Schema, path: str) -> Iterator[Problem]:
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: list[list[Any]] = []
    for index, item in enumerate(value):
        if not keys or not isinstance(item, dict):
            continue
        name = [item.get(key) for key in keys]
        if name in seen:
            yield f"{path}[{index}]", f"every {' and '.join(keys)} must be there once, and {name[0]!r} is there twice"
        seen.append(name)


def _name(metadata: Any) -> None:
    """The API server adds five characters to `generateName`, and judges the name that it has made."""
    if isinstance(metadata, dict) and not metadata.get("name") and isinstance(metadata.get("generateName"), str):
        start = metadata["generateName"]
        if start:
            metadata["name"] = f"{start[:58]}x2b4d"


def _bad_metadata(metadata: Any) -> Iterator[Problem]:
    if not isinstance(metadata, dict):
        yield "metadata", "is required"
        return
    for field in ("labels", "annotations"):
        keys = metadata.get(field)
        for key in map(str, keys if isinstance(keys, dict) else ()):  # no map at all has been told as its type
            # The API server compares the keys of annotations in lower case.
            if not matches(_QUALIFIED, key.lower() if field == "annotations" else key) or key.find("/") > 253:
                yield f"metadata.{field}", f"{key[:80]!r} is no key: it is a name, with a DNS prefix and / if any"
    if not metadata.get("name"):
        yield "metadata.name", "is required"


def _property(schema: crd.Schema, key: str) -> crd.Schema | None:
    properties = schema.get("properties", {})
    if key in properties:
        found: crd.Schema = properties[key]
        return found
    more = schema.get("additionalProperties")
    return more if isinstance(more, dict) else None


def _is_open(schema: crd.Schema) -> bool:
    return bool(schema.get("x-kubernetes-preserve-unknown-fields")) or "type" not in schema


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else str(key)


def _is_whole(value: Any) -> bool:
    """JSON has one kind of number: 2.0 is the integer 2."""
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_whole,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}
_NAMES = {
    "string": "a string",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a map",
    "array": "a list",
}


def _a(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return "a map" if isinstance(value, dict) else "a list"
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
