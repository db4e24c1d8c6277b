"""The interface of a kind of child."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..resource.taskqueue import TaskQueueResource

Child = dict[str, Any]
"""A Kubernetes object as plain data."""


@dataclass(frozen=True, slots=True)
class ChildKind:
    """A kind of object that belongs to a TaskQueue, which has at most one object of each kind.

    `build(queue, secrets)` returns the object, or None when this TaskQueue has none of the kind. It is a pure function.
    `secrets` maps `name/key` of every secret key that the TaskQueue references to a digest of its value.
    `plural` is the kind's name in URLs and in RBAC rules.
    `optional` kinds are deleted when `build` returns None; the operator needs the permission `delete` for them.
    `scaled` kinds have replicas, which belong to the autoscaler's field manager; `build` leaves them out.
    `spare` kinds are none that the pods read: when the API server forbids one, the others are applied all the same.
    """

    api_version: str
    kind: str
    plural: str
    build: Callable[[TaskQueueResource, Mapping[str, str]], Child | None]
    optional: bool = False
    scaled: bool = False
    spare: bool = False

    @property
    def group(self) -> str:
        """The API group; the empty string is the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]
