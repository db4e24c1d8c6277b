"""Objects as the store keeps them: what is equal in many of them is in memory once. A thousand TaskQueues are alike.

Every event is parsed by itself, so that each object has its own copy of every name of a field, and of `managedFields`,
which are half of a Deployment.
"""

from __future__ import annotations

import json
from functools import lru_cache
from sys import intern
from typing import Any

_LONGEST = 64  # characters of a string that others may have too
_OF_ONE_OBJECT = "f:ownerReferences"  # their fields have the owner's uid in their names


def compacted(body: dict[str, Any]) -> dict[str, Any]:
    """An equal object. Its `managedFields` are shared with others, so that they must not be changed."""
    metadata = body["metadata"]
    entries = metadata.pop("managedFields", None)
    kept: dict[str, Any] = _shared(body)
    if entries is not None:
        kept["metadata"]["managedFields"] = [
            {intern(name): _fields(value) if name == "fieldsV1" else _shared(value) for name, value in entry.items()}
            for entry in entries
        ]
    return kept


def _fields(owned: dict[str, Any]) -> dict[str, Any]:
    """What a manager owns: a tree with one branch for each block of the object, and of its metadata."""
    return {
        intern(name): (
            _fields(branch) if name == "f:metadata" else _shared(branch) if name == _OF_ONE_OBJECT else _branch(branch)
        )
        for name, branch in owned.items()
    }


def _branch(branch: Any) -> Any:
    return _parsed(json.dumps(branch))


@lru_cache(maxsize=512)
def _parsed(text: str) -> Any:
    return _shared(json.loads(text))


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {intern(name): _shared(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shared(one) for one in value]
    return intern(value) if isinstance(value, str) and len(value) <= _LONGEST else value
