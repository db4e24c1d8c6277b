"""Manifests close to a good one, from the schema of the resource: each field with values that are just good, or bad."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

from taskfleet_operator.resource.field_tables import schema_at
from tests.support.manifests import GOOD, REF, SCHEDULE

_LIMIT = {"tasksPerSecond": 5, "burst": 9}
WHOLE: dict[str, Any] = copy.deepcopy(GOOD)
"""A manifest in which every block of the schema is present, but for the other modes of Redis."""
WHOLE["spec"] |= {
    "suspend": False,
    "replicas": 2,
    "scheduler": {"mode": "Enabled"},
    "schedules": [{**SCHEDULE, "args": [1]}],
}
WHOLE["spec"]["redis"] |= {
    "auth": {"username": "worker", "passwordSecretRef": dict(REF)},
    "tls": {"mode": "Enabled", "caSecretRef": dict(REF), "clientCertSecretName": "client", "serverName": "redis"},
}
WHOLE["spec"]["queues"][0] |= {"rateLimit": dict(_LIMIT), "rateLimitPerKey": dict(_LIMIT), "deadLetter": {}}
WHOLE["spec"]["worker"] |= {
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {}},
    "metadata": {"labels": {"team": "shop"}, "annotations": {"example.com/owner": "shop"}},
    "template": {"metadata": {}, "spec": {}},
}
WHOLE["spec"]["autoscaler"]["behavior"] = {
    "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]},
    "scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]},
}
SENTINEL: dict[str, Any] = copy.deepcopy(GOOD)
SENTINEL["spec"]["redis"] = {
    "mode": "Sentinel",
    "sentinel": {"masterName": "m", "addresses": ["s0:26379"], "passwordSecretRef": dict(REF)},
}
CLUSTER: dict[str, Any] = copy.deepcopy(GOOD)
CLUSTER["spec"]["redis"] = {"mode": "Cluster", "cluster": {"addresses": ["c0:6379", "[::1]:6379"]}}

Mutation = tuple[str, dict[str, Any]]
_ABSENT = object()


def all_mutations() -> Iterator[Mutation]:
    """A name and a manifest for each."""
    seen: set[str] = set()
    for name, good in (("", WHOLE), ("sentinel: ", SENTINEL), ("cluster: ", CLUSTER)):
        yield f"{name}unchanged", good
        at = "spec" if good is WHOLE else "spec.redis"
        for path, schema in _fields(schema_at(at), tuple(at.split("."))):
            if not _is_there(good, path[:-1]):
                continue
            bounds = repr({key: value for key, value in schema.items() if key not in {"description", "default"}})
            # A second field with the same bounds is tried at them only.
            for value in itertools.islice(_values(schema), 6 if bounds in seen else None):
                seen.add(bounds)
                yield f"{name}{'.'.join(map(str, path))}: {_short(value)}", _changed(good, path, value)
    yield from _by_hand()


def _fields(
    schema: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield (*path, name), field
        yield from _fields(field, (*path, name))
        if "items" in field:
            yield (*path, name, 0), field["items"]
            yield from _fields(field["items"], (*path, name, 0))


def _values(schema: dict[str, Any]) -> Iterator[Any]:
    yield _ABSENT
    yield None
    kind = schema.get("type")
    if kind == "integer" or schema.get("x-kubernetes-int-or-string"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 2**31)
        yield from (low, high, low - 1, high + 1, str(low), float(low), low + 0.5, 1e30, True, [low], {}, "")
    if schema.get("x-kubernetes-int-or-string"):
        yield from ("0%", "100%", "101%", "00%", "%", "1.5%", "50%\n", " 50%", "-5%", "٣%", "10", "100000000000%")
    elif kind == "string":
        yield from (
            1,
            1.5,
            True,
            [],
            {},
            "",
            " ",
            "x",
            "X",
            "-a",
            "a-",
            "a.b",
            "a\n",
            "ä",
            "a b",
            "\x0b",
            "a/b",
            "a\0b",
            "a,b",
            "a\x7f",
            "٣",
            "1",
            "0.5",
            "Enabled",
        )
        if "enum" in schema:
            yield from (*schema["enum"], schema["enum"][0].lower(), f"{schema['enum'][0]} ")
        elif "maxLength" in schema:
            yield from (sign * (schema["maxLength"] + more) for sign in ("a", "ä", "😀", "1") for more in (0, 1))
    elif kind == "boolean":
        yield from (True, False, "true", "yes", 0, 1, "", [])
    elif kind == "array":
        yield from ([], {}, "x", [None], ["x"], [1], [{}])
    elif kind == "object":
        yield from ({}, [], "x", 1, True, {"unknown": 1}, {"name": None})


def _is_there(manifest: dict[str, Any], path: tuple[str | int, ...]) -> bool:
    """Whether a field can be set there. Blocks of the autoscaler are made on the way; the two of Redis are not."""
    if path[1:3] in {("redis", "sentinel"), ("redis", "cluster")}:
        return path[2] in manifest["spec"]["redis"]
    return True


def _changed(good: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(good)
    node: Any = manifest
    for part in path[:-1]:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    last = path[-1]
    if isinstance(last, int):
        node[last : last + 1] = [] if value is _ABSENT else [value]
    elif value is _ABSENT:
        node.pop(last, None)
    else:
        node[last] = value
    return manifest


def _by_hand() -> Iterator[Mutation]:
    def spec(name: str, path: str, value: Any) -> Mutation:
        parts = tuple(int(part) if part.isdigit() else part for part in path.split("."))
        return f"{name}: {_short(value)}", _changed(WHOLE, parts, value)

    for name in (
        "orders",
        "Orders",
        "-a",
        "a-",
        "1a",
        "a.b",
        "a_b",
        "",
        "ä",
        "a\n",
        "x" * 47,
        "x" * 48,
        5,
        None,
        True,
        [],
        {},
    ):
        yield spec("name", "metadata.name", name)
    for value in (
        None, {}, [], "x", {"a": "b"}, {"a": 1}, {"a": None}, {"a": True}, {"a b": "c"}, {"/a": "c"}, {"x.y/a": "c"},
        {"X.y/a": "c"}, {"": "c"}, {"a": "b c"}, {"a": "x" * 64}, {"a" * 64: "b"}, {"a/b/c": "d"}, {"a": "-"},
        {"a..b/x": "c"}, {"a.-b/x": "c"}, {"a-.b/x": "c"}, {".a/x": "c"}, {"a./x": "c"}, {"a.b.c/x": "c"},
        {f"{'a' * 253}/x": "c"}, {f"{'a' * 254}/x": "c"},
    ):  # fmt: skip
        yield spec("labels", "metadata.labels", value)
        yield spec("annotations", "metadata.annotations", value)
        yield spec("worker labels", "spec.worker.metadata.labels", value)
        yield spec("worker annotations", "spec.worker.metadata.annotations", value)
    for address in ("a..b:1", ".a:1", "a.:1", "..:1", f"{'a' * 63}.b:1", f"{'a' * 64}.b:1", "_a-.b_:1"):
        yield (
            f"cluster: address {_short(address)}",
            _changed(CLUSTER, ("spec", "redis", "cluster", "addresses", 0), address),
        )
    for key in (".", "..", "..a", ".a", "a..b", "a.", "-", "..."):
        yield spec("secret key", "spec.redis.auth.passwordSecretRef.key", key)
    for start in ("orders-", "Orders-", "", "x" * 42, "x" * 43, "1", "a.b-", 5, None):
        yield "generateName: " + _short(start), {**WHOLE, "metadata": {"generateName": start}}
    for field in ("unknown", "nmae", "clusterName"):
        yield spec(f"metadata.{field}", f"metadata.{field}", "x")
        yield spec(f"spec.{field}", f"spec.{field}", "x")
        yield spec(field, field, "x")
    for status in (None, {}, [], {"replicas": 1}, {"replicas": "x"}, {"unknown": 1}, {"conditions": [{"type": "x"}]}):
        yield spec("status", "status", status)
    for queue in (
        {"name": "high_priority"},
        {"name": "default"},
        {"name": "Default"},
        {"name": "a", "weight": None},
        None,
        {},
    ):
        yield spec("second queue", "spec.queues.1", queue)
    for count in (64, 65):
        yield spec(
            f"{count} queues", "spec.queues", [{"name": f"q{n}"} for n in range(count - 1)] + [{"name": "default"}]
        )
        yield spec(f"{count} schedules", "spec.schedules", [{**SCHEDULE, "name": f"s{n}"} for n in range(count)])
        yield spec(f"{count} arguments", "spec.schedules.0.args", list(range(count)))
    for count in (32, 33):
        yield spec(f"{count} labels", "spec.worker.metadata.labels", {f"k{n}": "" for n in range(count)})
    for kwargs in ({"a": None}, {"a": {"b": [1, None, 2.5, True]}}, {"": 1}, {"ä": "ä"}):
        yield spec("kwargs", "spec.schedules.0.kwargs", kwargs)
        yield spec("template.spec", "spec.worker.template.spec", kwargs)
    for text in (
        "0 3 * * *",
        "@daily",
        "@never",
        "0 0 3 * * *",
        "* * * *",
        "* * * * * * *",
        " 0 3 * * *",
        "0\t3 * * *",
        "0 3 * * *\n",
    ):
        yield spec("schedule", "spec.schedules.0.schedule", text)
    for url in (
        "redis://h", "rediss://h:1/2", "redis://h:0", "redis://h:65536", "redis://[::1]", "redis://[x]", "REDIS://h",
        "redis://u@h", "redis://u:p@h", "redis://u:@h", "redis://:@h", "redis://h?db=1", "redis://h?db=1&", "redis://h#",
        "redis://h?password=x", "redis://h/", "redis://h/0?protocol=4", "redis://ä", "redis://h\n", "unix:///x",
        "redis+cluster://h",
    ):  # fmt: skip
        yield spec("url", "spec.redis.url", url)


def _short(value: Any) -> str:
    shown = "absent" if value is _ABSENT else repr(value)
    return shown if len(shown) < 40 else f"{shown[:30]}… ({len(shown)})"
