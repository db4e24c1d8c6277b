"""The strategic merge of the user's pod template over the generated one.

Maps merge key by key and `null` deletes; lists of items with keys merge by these, as the Kubernetes API declares them
for server-side apply; other lists are replaced. `$patch: delete` in an item deletes it, `$patch: replace` in a map
replaces the map: unlike `null`, both survive `kubectl apply`. Another source of a volume, or another handler of a
probe, replaces the one that is there.
"""

from __future__ import annotations

import copy
from typing import Any

MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "ports": ("containerPort", "protocol"),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "resourceClaims": ("name",),
    "claims": ("name",),
    "schedulingGates": ("name",),
}
"""The `x-kubernetes-list-map-keys` of each list of a PodTemplateSpec; a list that is not here is replaced."""
_DEFAULTS = {"protocol": "TCP"}
_DIRECTIVE = "$patch"
_HANDLERS = frozenset({"httpGet", "exec", "tcpSocket", "grpc", "sleep"})  # a probe or a hook has one of them
_VALUES = frozenset({"value", "valueFrom"})  # an environment variable has one of them, whole


def strategic(base: Any, patch: Any, field: str = "") -> Any:
    """`patch` over `base`. The result shares nothing with them: a caller may change it."""
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
    keys = MERGE_KEYS.get(field)
    if keys is not None and isinstance(patch, list):
        return _by_keys(base if isinstance(base, list) else [], patch, keys, field)
    return copy.deepcopy(patch)


def _set_by(patch: dict[str, Any]) -> set[str]:
    """The keys to which it gives a value."""
    return {key for key, value in patch.items() if value is not None and key != _DIRECTIVE and not _deletes(value)}


def _deletes(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_DIRECTIVE) == "delete"


def _by_keys(base: list[Any], patch: list[Any], keys: tuple[str, ...], field: str) -> list[Any]:
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in patch):
        base, patch = [], [item for item in patch if not (isinstance(item, dict) and _DIRECTIVE in item)]
    merged: list[Any] = copy.deepcopy(base)
    for item in patch:
        found = [at for at, other in enumerate(merged) if _is_same(other, item, keys)]
        if not found and field == "topologySpreadConstraints":
            # An author who writes a strict rule for a topology wants it in place of the soft one.
            left = [other for other in base if not any(_is_same(other, one, keys) for one in patch)]
            found = [at for at, other in enumerate(merged) if other in left and _is_same(other, item, keys[:1])]
        if _deletes(item):
            merged = [other for at, other in enumerate(merged) if at not in found]
        elif not found:
            merged.append(strategic({}, item))
        else:
            merged[found[0]] = strategic(_without_replaced(merged[found[0]], item, field), item)
    return merged


def _without_replaced(old: dict[str, Any], item: dict[str, Any], field: str) -> dict[str, Any]:
    """The old entry without what the new one replaces: of some fields an entry must have only one."""
    if _VALUES & item.keys():
        return {key: value for key, value in old.items() if key not in _VALUES}
    if field == "volumes" and _set_by(item) - old.keys():
        return {"name": old["name"]}  # another source
    return old


def _is_same(other: Any, item: Any, keys: tuple[str, ...]) -> bool:
    """Whether `item` is about this item. One without its first key is a new one; one without a second is about all."""
    if not isinstance(other, dict) or not isinstance(item, dict) or item.get(keys[0]) is None:
        return False
    asked = {key: value for key in keys if (value := item.get(key, _DEFAULTS.get(key))) is not None}
    return all(other.get(key, _DEFAULTS.get(key)) == value for key, value in asked.items())
