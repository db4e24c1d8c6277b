"""Results on their way from one task of a workflow to another, each in the form that its task gave it.

A `CarriedForm` is messagepack of a tree: `[0, result]` is one result, `[1, [tree, …]]` are the results of a group.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from taskfleet.protocol import envelope
from taskfleet.protocol.envelope import CarriedForm, PydanticJson, TypedForm

_FORMS = (PydanticJson, TypedForm)


def one(result: Any) -> list[Any]:
    """The tree of one result."""
    return [0, result]


def several(trees: list[list[Any]]) -> list[Any]:
    """The tree of the results of a group, in order."""
    return [1, trees]


def argument(tree: list[Any]) -> Any:
    """The tree as an argument: a `CarriedForm` only if a result in it has a form."""
    return CarriedForm(envelope.pack(tree)) if _has_form(tree) else _revive(tree, lambda result: result)


def revive(form: CarriedForm, each: Callable[[Any], Any]) -> Any:
    """The results, nested as they are, with `each` applied to all of them."""
    return _revive(envelope.unpack(form), each)


def as_json(form: CarriedForm) -> PydanticJson | None:
    """One JSON text, if the results came from a version that writes no typed form."""
    text = _as_json(envelope.unpack(form))
    return None if text is None else PydanticJson(text)


def _has_form(tree: list[Any]) -> bool:
    group, content = tree
    return any(map(_has_form, content)) if group else type(content) in _FORMS


def _revive(tree: list[Any], each: Callable[[Any], Any]) -> Any:
    group, content = tree
    return [_revive(inner, each) for inner in content] if group else each(content)


def _as_json(tree: list[Any]) -> bytes | None:
    group, content = tree
    if not group:
        return bytes(content) if type(content) is PydanticJson else _natively(content)
    parts = [_as_json(inner) for inner in content]
    known = [part for part in parts if part is not None]
    return b"[" + b",".join(known) + b"]" if len(known) == len(parts) else None


def _natively(value: Any) -> bytes | None:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return None
    return text.encode() if type(value) is not TypedForm and json.loads(text) == value else None
