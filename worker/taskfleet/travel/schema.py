"""Pydantic's core schema: a tree of dicts, each with a `type`."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

SchemaNode: TypeAlias = Mapping[str, Any]

# Parts of a node that are data, even where they look like nodes.
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


def nodes_of(schema: Any) -> Iterator[SchemaNode]:
    """All nodes of a schema. A model may have a field named `type`, which makes no node of its fields."""
    if isinstance(schema, Mapping):
        is_node = isinstance(schema.get("type"), str)
        if is_node:
            yield schema
        for key, each in schema.items():
            if not (is_node and key in OPAQUE) and isinstance(each, (Mapping, list, tuple)):
                yield from nodes_of(each)
    elif isinstance(schema, (list, tuple)):
        for each in schema:
            yield from nodes_of(each)


def class_of(node: SchemaNode) -> type:
    """The class of an `is-instance` node, which may be one of typing's aliases."""
    cls: Any = node["cls"]
    origin: Any = typing.get_origin(cls)
    return cast("type", origin if origin is not None else cls)
