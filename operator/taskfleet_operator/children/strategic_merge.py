"""The strategic merge of the user's pod template over the generated one.

Maps merge key by key and `null` deletes; lists of named items merge by their merge key, as the Kubernetes API declares
it for a PodSpec; other lists are replaced.
"""

from __future__ import annotations

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
}


def strategic(base: Any, patch: Any, field: str = "") -> Any:
    """`patch` over `base`; neither is changed."""
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = dict(base)
        for key, value in patch.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = strategic(merged.get(key), value, key)
        return merged
    key = _MERGE_KEYS.get(field)
    if key is not None and isinstance(base, list) and isinstance(patch, list):
        return _by_key(base, patch, key)
    return patch


def _by_key(base: list[Any], patch: list[Any], key: str) -> list[Any]:
    merged = list(base)
    positions = {item.get(key): index for index, item in enumerate(merged) if isinstance(item, dict)}
    for item in patch:
        name = item.get(key) if isinstance(item, dict) else None
        if name in positions:
            # `valueFrom` replaces `value`, and the other way round: an entry must not have both.
            old = merged[positions[name]]
            if "value" in item or "valueFrom" in item:
                old = {k: v for k, v in old.items() if k not in ("value", "valueFrom")}
            merged[positions[name]] = strategic(old, item)
        else:
            merged.append(item)
    return merged
