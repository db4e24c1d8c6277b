"""Writes of status: only changed fields, and one writer at a time."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from . import conditions
from .cluster_store import ClusterStore, Key
from .conditions import Condition
from .kubernetes_api import ApiError, KubernetesApi


class StatusWriter:
    """Merges fields and conditions into a TaskQueue's status.

    It remembers its last write of each TaskQueue, because the next write may come before the watch shows the last one.
    """

    def __init__(self, cluster: KubernetesApi, store: ClusterStore) -> None:
        self._cluster = cluster
        self._store = store
        self._written: dict[Key, dict[str, Any]] = {}
        self._insisted: dict[Key, dict[str, Condition]] = {}
        self._locks: dict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    def current(self, key: Key) -> Mapping[str, Any]:
        """The status as last written, else as the watch has shown it."""
        if key in self._written:
            return self._written[key]
        status: Mapping[str, Any] = self._store.queues.get(key, {}).get("status") or {}
        return status

    async def write(
        self,
        key: Key,
        fields: Mapping[str, Any],
        wanted: Iterable[Condition] = (),
        *,
        unless_only: Collection[str] = (),
    ) -> bool | None:
        """Write these fields and conditions. No request is sent when they are unchanged.

        With only changes of the fields in `unless_only` (dotted names), no request is sent either, and the result is
        None. Otherwise the result is whether a request was sent.
        """
        async with self._locks[key]:
            body = self._store.queues.get(key)
            if body is None:
                return False
            before = dict(self.current(key))
            generation = body["metadata"].get("generation", 0)
            after = before | dict(fields)
            insisted = self._insisted.get(key, {})
            merged = [insisted.get(condition.type, condition) for condition in wanted]
            after["conditions"] = conditions.merge(before.get("conditions", ()), merged, generation, time.time())
            if after == before:
                return False
            patch = merge_patch(before, after)
            if unless_only and _leaves(patch) <= set(unless_only):
                return None
            try:
                await self._cluster.patch_status(*key, patch)
            except ApiError as error:
                if error.status == 404:
                    return False  # deleted in the meantime
                raise
            self._written[key] = {name: value for name, value in after.items() if value is not None}
            return True

    async def insist(self, key: Key, fields: Mapping[str, Any], wanted: Iterable[Condition]) -> None:
        """Like `write`. Until `relent`, these conditions replace those of the same type from other writers."""
        kept = self._insisted[key] = {condition.type: condition for condition in wanted}
        await self.write(key, fields, kept.values())

    def relent(self, key: Key) -> bool:
        """End `insist`. Returns whether it was in effect."""
        return self._insisted.pop(key, None) is not None

    def forget(self, key: Key) -> None:
        self._written.pop(key, None)
        self._insisted.pop(key, None)
        self._locks.pop(key, None)


def _leaves(patch: Mapping[str, Any], prefix: str = "") -> set[str]:
    """The dotted names of all fields that a patch changes."""
    found: set[str] = set()
    for name, value in patch.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name}
    return found


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) from one to the other: null for removed fields, lists whole."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if nested := merge_patch(old, value):
                patch[name] = nested
        elif old != value:
            patch[name] = value
    return patch
