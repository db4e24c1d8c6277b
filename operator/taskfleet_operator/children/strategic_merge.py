"""The strategic merge of the user's pod template over the generated one.

Maps merge key by key and `null` deletes; lists of named items merge by their merge key, as the Kubernetes API declares
it for a PodSpec; other lists are replaced. `$patch: delete` in an item deletes it, `$patch: replace` in a map replaces
the map: unlike `null`, both survive `kubectl apply`. Another source of a volume, or another handler of a probe,
replaces the one that is there.
"""

from __future__ import annotations

import copy
from typing import Any

# https://kubernetes.io/docs/reference/generated/kubernetes-api/: the `patchMergeKey` of each list of a PodTemplateSpec.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "resourceClaims": "name",
    "schedulingGates": "name",
}
_DIRECTIVE = "$patch"
_HANDLERS = frozenset({"httpGet", "exec", "tcpSocket", "grpc", "sleep"})  # a probe or a hook has one of them
_VALUES = frozenset({"value", "valueFrom"})  # an environment variable has one of them, whole


def strategic(base: Any, patch: Any, field: str = "") -> Any:
    """`patch` over `base`. The result shares nothing with either of them: whoever changes it changes nothing else."""
    if isinstance(patch, dict):
        if not isinstance(base, dict) or patch.get(_DIRECTIVE) == "replace":
            base = {}
        if _HANDLERS & _set_by(patch):
            base = {key: value for key, value in base.items() if key in patch or key not in _HANDLERS}
        merged = {key: copy.deepcopy(value) for key, value in base.items() if key not in patch}
        for key, value in patch.items():
            if value is None or key == _DIRECTIVE or _deletes(value):
                continue
            merged[key] = strategic(base.get(key), value, key)
        return {key: merged[key] for key in (*base, *patch) if key in merged}  # the order of `base`, then new keys
    key = _MERGE_KEYS.get(field)
    if key is not None and isinstance(patch, list):
        return _by_key(base if isinstance(base, list) else [], patch, key, field)
    return copy.deepcopy(patch)


def _set_by(patch: dict[str, Any]) -> set[str]:
    """The keys to which it gives a value."""
    return {key for key, value in patch.items() if value is not None and key != _DIRECTIVE and not _deletes(value)}


def _deletes(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_DIRECTIVE) == "delete"


def _by_key(base: list[Any], patch: list[Any], key: str, field: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        base, patch = [], [item for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    merged: list[Any] = copy.deepcopy(base)
    for item in patch:
        position = _position(merged, item, key)
        if _deletes(item):
            if position is not None:
                del merged[position]
        elif position is None:
            merged.append(strategic({}, item))
        else:
            merged[position] = strategic(_without_replaced(merged[position], item, field), item)
    return merged


def _without_replaced(old: dict[str, Any], item: dict[str, Any], field: str) -> dict[str, Any]:
    """The old entry without what the new one replaces: of some fields an entry must have only one."""
    if _VALUES & item.keys():
        return {key: value for key, value in old.items() if key not in _VALUES}
    if field == "volumes" and _set_by(item) - old.keys():
        return {"name": old["name"]}  # another source
    return old


def _position(items: list[Any], item: Any, key: str) -> int | None:
    """The place of the item with the same name, which need not be a string that can be hashed."""
    name = item.get(key) if isinstance(item, dict) else None
    if name is None:
        return None
    return next((at for at, other in enumerate(items) if isinstance(other, dict) and other.get(key) == name), None)
