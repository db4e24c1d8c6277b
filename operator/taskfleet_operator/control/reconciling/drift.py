"""The drift check: whether an object in the cluster still is what was applied, exactly in the fields that are ours.

The API server says which fields those are (`managedFields`), and where the value as a whole is ours: an argument that
somebody adds to a container, or a key to a selector, is drift; an environment variable of another manager is not.

A difference is a suspicion only. Defaults, other ways of writing a quantity, and webhooks that change objects look like
drift and are none; whether an apply would change anything, its dry run says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..api.kubernetes_api import OPERATOR
from ..store.cluster_store import Object
from .quantity import amount

_QUANTITIES = {"limits", "requests", "sizeLimit"}
_DEFAULTED = {"apiVersion", "divisor"}  # defaults inside values that are owned as a whole: fieldRef, resourceFieldRef
_IDENTITY = {"name", "namespace", "uid"}
_TOLD_ELSEWHERE = {"apiVersion", "kind", "metadata", "status"}


def is_exact(wanted: Object, live: Object) -> bool:
    """Whether the operator's fields of `live` are those of `wanted`, with these values."""
    entries = live["metadata"].get("managedFields") or ()
    owned = next((one["fieldsV1"] for one in entries if _is_ours(one)), None)
    if owned is None:
        return False
    metadata = {name: value for name, value in wanted["metadata"].items() if name not in _IDENTITY}
    asked = {name: value for name, value in wanted.items() if name not in _TOLD_ELSEWHERE}
    if metadata:
        asked["metadata"] = metadata
    return _is_exact(asked, live, owned)


def content(live: Object, *, scaled: bool = False) -> dict[str, Any]:
    """What people and programs have written, without what Kubernetes counts. `scaled`: without the replicas."""
    metadata = live["metadata"]
    found = {name: value for name, value in live.items() if name not in _TOLD_ELSEWHERE}
    if scaled:
        found["spec"] = {name: value for name, value in found["spec"].items() if name != "replicas"}
    return found | {name: metadata.get(name) or {} for name in ("labels", "annotations", "ownerReferences")}


def first_difference(wanted: Any, live: Any, path: str = "") -> str:
    """The path of the first field in which two contents differ; empty when there is none."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for name in (*wanted, *(name for name in live if name not in wanted)):
            if found := first_difference(wanted.get(name), live.get(name), f"{path}.{name}" if path else str(name)):
                return found
        return ""
    if isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        for index, (one, other) in enumerate(zip(wanted, live, strict=True)):
            if found := first_difference(one, other, f"{path}[{index}]"):
                return found
        return ""
    return "" if wanted == live else path


def changed_fields(wanted: Any, live: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields of `wanted` that `live` has with another value, or not at all."""
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        for name in wanted:
            if path or name not in {*_TOLD_ELSEWHERE, "metadata"}:
                yield from changed_fields(wanted[name], live.get(name), f"{path}.{name}" if path else name)
    elif isinstance(wanted, list) and isinstance(live, list):
        for number, one in enumerate(wanted):
            same = live[number] if number < len(live) else None
            if isinstance(one, Mapping) and "name" in one:  # others may have been put before it
                number = one["name"]
                same = next((other for other in live if isinstance(other, Mapping) and other.get("name") == number), {})
            yield from changed_fields(one, same, f"{path}[{number}]")
    elif wanted != live and not _same_quantity(wanted, live):
        yield path


def last_other_manager(live: Object) -> str:
    """Who else has written to an object last."""
    entries = [
        one
        for one in live["metadata"].get("managedFields") or ()
        if not one.get("subresource") and not str(one.get("manager", "")).startswith("taskfleet-")
    ]
    return max(((str(one.get("time")), str(one.get("manager"))) for one in entries), default=("", "unknown"))[1]


def _is_ours(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == OPERATOR and entry.get("operation") == "Apply" and not entry.get("subresource")


def _is_exact(wanted: Any, live: Any, owned: Mapping[str, Any], *, quantity: bool = False) -> bool:
    if isinstance(wanted, dict) and any(name.startswith("f:") for name in owned):
        ours = {name[2:] for name in owned if name.startswith("f:")}
        return (
            isinstance(live, Mapping)
            and ours == wanted.keys()
            and all(
                name in live
                and _is_exact(value, live[name], owned[f"f:{name}"], quantity=quantity or name in _QUANTITIES)
                for name, value in wanted.items()
            )
        )
    if isinstance(wanted, list) and any(name.startswith(("k:", "v:")) for name in owned):
        return isinstance(live, list) and _are_members(wanted, live, owned)
    return _is_equal(wanted, live, quantity=quantity)


def _are_members(wanted: list[Any], live: list[Any], owned: Mapping[str, Any]) -> bool:
    """A list whose members have an owner each. Members of other owners may be among them."""
    keys = [name for name in owned if name.startswith(("k:", "v:"))]
    if len(keys) != len(wanted):
        return False
    for name in keys:
        key = json.loads(name[2:])
        found = _member(live, key, strict=True)
        asked = _member(wanted, key, strict=True) or _member(wanted, key, strict=False)
        if asked is None or found is None or not _is_exact(asked, found, owned[name]):
            return False
    return True


def _member(members: list[Any], key: Any, *, strict: bool) -> Any:
    """The member with this key. What we ask for may leave a part of it to a default."""
    if not isinstance(key, dict):
        return key if key in members else None
    for one in members:
        if isinstance(one, dict) and all(
            one.get(name) == value or (not strict and name not in one) for name, value in key.items()
        ):
            return one
    return None


def _is_equal(wanted: Any, live: Any, *, quantity: bool = False) -> bool:
    """Whether a value that is owned as a whole is the same."""
    if isinstance(wanted, dict):
        return (
            isinstance(live, Mapping)
            and not live.keys() - wanted.keys() - _DEFAULTED
            and all(
                name in live and _is_equal(value, live[name], quantity=quantity or name in _QUANTITIES)
                for name, value in wanted.items()
            )
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(wanted) == len(live)
            and all(_is_equal(one, other, quantity=quantity) for one, other in zip(wanted, live, strict=True))
        )
    return bool(wanted == live) or (quantity and _same_quantity(wanted, live))


def _same_quantity(wanted: Any, live: Any) -> bool:
    """The API server writes `1000m` as `1`, and `1024Mi` as `1Gi`."""
    try:
        return bool(amount(wanted) == amount(live))
    except (ValueError, TypeError):
        return False
