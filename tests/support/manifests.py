"""One good manifest, and every way to break it that a rule guards."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

GOOD: dict[str, Any] = {
    "apiVersion": "taskfleet.io/v1alpha1",
    "kind": "TaskQueue",
    "metadata": {"name": "orders"},
    "spec": {
        "redis": {"url": "redis://redis:6379/0"},
        "queues": [{"name": "high_priority"}, {"name": "default"}],
        "worker": {"image": "registry.example/shop:1.0", "app": "shop.tasks:queue"},
        "autoscaler": {"minReplicas": 0, "maxReplicas": 20},
    },
}

REF = {"name": "orders-redis", "key": "url"}
SCHEDULE = {"name": "nightly", "schedule": "0 3 * * *", "queue": "default", "task": "report"}
REMOVE = object()


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """`GOOD` with values set (or removed) at dotted paths below it; a number steps into a list."""
    manifest = copy.deepcopy(GOOD)
    for path, value in changes.items():
        node: Any = manifest
        *parents, last = path.split(".")
        for part in parents:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if value is REMOVE:
            del node[last]
        else:
            node[int(last) if isinstance(node, list) else last] = value
    return manifest


@dataclass(frozen=True)
class Case:
    """Changes that a rule refuses, similar changes that it allows, and a part of the error message."""

    name: str
    bad: dict[str, Any]
    good: dict[str, Any]
    says: str


R, A, W = "spec.redis", "spec.autoscaler", "spec.worker"
CASES = [
    Case(
        "no url",
        {f"{R}.url": REMOVE},
        {f"{R}.url": REMOVE, f"{R}.urlSecretRef": REF},
        "exactly one of url and urlSecretRef",
    ),
    Case("two urls", {f"{R}.urlSecretRef": REF}, {}, "exactly one of url and urlSecretRef"),
    Case(
        "url with cluster",
        {f"{R}.mode": "Cluster", f"{R}.cluster": {"addresses": ["c:6379"]}},
        {f"{R}.mode": "Cluster", f"{R}.cluster": {"addresses": ["c:6379"]}, f"{R}.url": REMOVE},
        "remove url and urlSecretRef",
    ),
    Case(
        "no sentinels",
        {f"{R}.mode": "Sentinel", f"{R}.url": REMOVE},
        {f"{R}.mode": "Sentinel", f"{R}.url": REMOVE, f"{R}.sentinel": {"masterName": "m", "addresses": ["s:1"]}},
        "needs the block sentinel",
    ),
    Case(
        "sentinels without the mode", {f"{R}.sentinel": {"masterName": "m", "addresses": ["s:1"]}}, {}, "mode: Sentinel"
    ),
    Case(
        "no cluster",
        {f"{R}.mode": "Cluster", f"{R}.url": REMOVE},
        {f"{R}.mode": "Cluster", f"{R}.url": REMOVE, f"{R}.cluster": {"addresses": ["c:6379"]}},
        "needs the block cluster",
    ),
    Case("cluster without the mode", {f"{R}.cluster": {"addresses": ["c:6379"]}}, {}, "mode: Cluster"),
    Case(
        "password in the url",
        {f"{R}.url": "redis://u:pw@h:1/0"},
        {f"{R}.url": "redis://u@h:1/0"},
        "without a password",
    ),
    *(
        Case(
            f"a password {where}",
            {f"{R}.url": url},
            {f"{R}.url": "redis://h:1/0?db=1&protocol=3"},
            "without a password",
        )
        for where, url in {
            "without a user": "redis://:pw@h:1/0",
            "behind an escaped colon": "redis://u%3Apw@h:1/0",
            "in the query": "redis://h:1/0?password=pw",
            "in the query, with an escape": "redis://h:1/0?p%61ssword=pw",
            "as a later option": "redis://h:1/0?db=1&password=pw",
            "in an option of another name": "redis://h:1/0?passwd=pw",
            "in an allowed option": "redis://h:1/0?client_name=a%26password=pw",
            "in the fragment": "redis://h:1/0#pw",
            "in the path": "redis://h:1/pw",
            "before a second @": "redis://u:p@w@h:1/0",
            "with a slash": "redis://u:p/w@h:1/0",
            "behind a tab": "redis://h:1/0\t?password=pw",
        }.items()
    ),
    Case("a port above 65535", {f"{R}.url": "redis://h:99999"}, {f"{R}.url": "redis://h:65535"}, "redis.url must be"),
    Case("a bracket", {f"{R}.url": "redis://[bad"}, {f"{R}.url": "redis://[::1]:6379"}, "redis.url must be"),
    Case("another scheme", {f"{R}.url": "http://h"}, {f"{R}.url": "rediss://h"}, "write redis://host"),
    Case(
        "a CA without TLS",
        {f"{R}.tls": {"caSecretRef": REF}},
        {f"{R}.tls": {"mode": "Enabled", "caSecretRef": REF}},
        "set mode: Enabled",
    ),
    Case("empty auth", {f"{R}.auth": {}}, {f"{R}.auth": {"username": "worker"}}, "set username, passwordSecretRef"),
    Case("a queue twice", {"spec.queues.1.name": "high_priority"}, {}, "queues"),
    Case(
        "a queue name with a space",
        {"spec.queues.1.name": "two words"},
        {"spec.queues.1.name": "a:b.c-d_e"},
        "queues[1].name",
    ),
    Case(
        "no task at once",
        {"spec.queues.0.concurrency": 0},
        {"spec.queues.0.concurrency": 1},
        "queues[0].concurrency",
    ),
    Case(
        "no task at once of a key",
        {"spec.queues.0.concurrencyPerKey": 0},
        {"spec.queues.0.concurrencyPerKey": 1},
        "queues[0].concurrencyPerKey",
    ),
    Case(
        "a rate limit of a key without its burst",
        {"spec.queues.0.rateLimitPerKey": {"tasksPerSecond": 5}},
        {"spec.queues.0.rateLimitPerKey": {"tasksPerSecond": 5, "burst": 5}},
        "queues[0].rateLimitPerKey.burst",
    ),
    Case(
        "a schedule's unknown queue",
        {"spec.schedules": [SCHEDULE | {"queue": "defualt"}]},
        {"spec.schedules": [SCHEDULE]},
        "must be one of spec.queues",
    ),
    Case(
        "a schedule twice",
        {"spec.schedules": [SCHEDULE, SCHEDULE]},
        {"spec.schedules": [SCHEDULE, SCHEDULE | {"name": "b"}]},
        "schedules",
    ),
    Case(
        "a schedule of two fields",
        {"spec.schedules": [SCHEDULE | {"schedule": "0 3"}]},
        {"spec.schedules": [SCHEDULE | {"schedule": "@daily"}]},
        "write five fields",
    ),
    Case(
        "a local time zone",
        {"spec.schedules": [SCHEDULE | {"timeZone": "Local"}]},
        {"spec.schedules": [SCHEDULE | {"timeZone": "Europe/Berlin"}]},
        "name a zone",
    ),
    Case(
        "jitter past the deadline",
        {"spec.schedules": [SCHEDULE | {"jitterSeconds": 30, "startingDeadlineSeconds": 30}]},
        {"spec.schedules": [SCHEDULE | {"jitterSeconds": 29, "startingDeadlineSeconds": 30}]},
        "jitterSeconds must be less",
    ),
    Case(
        "min above max",
        {f"{A}.minReplicas": 21},
        {f"{A}.minReplicas": 20},
        "minReplicas must not be greater than maxReplicas",
    ),
    Case(
        "thresholds the wrong way round",
        {f"{A}.threshold": {"scaleUpThreshold": "1.0", "scaleDownThreshold": "1.0"}},
        {f"{A}.threshold": {"scaleUpThreshold": "10.0", "scaleDownThreshold": "9.0"}},
        "scaleDownThreshold must be below",
    ),
    Case(
        "no processing time",
        {f"{A}.target": {"processingTimeSeconds": "0.0"}},
        {f"{A}.target": {"processingTimeSeconds": "0.1"}},
        "greater than 0",
    ),
    Case(
        "a bad quantity",
        {f"{A}.threshold": {"scaleUpThreshold": "5,0"}},
        {f"{A}.threshold": {"scaleUpThreshold": "5.0"}},
        "scaleUpThreshold",
    ),
    Case(
        "fallback above max",
        {f"{A}.fallback": {"behavior": "Static", "replicas": 21}},
        {f"{A}.fallback": {"behavior": "Static", "replicas": 20}},
        "fallback.replicas must not be greater",
    ),
    Case(
        "no surge and none unavailable",
        {f"{W}.updateStrategy": {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": 0}}},
        {f"{W}.updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}},
        "cannot both be 0",
    ),
    Case(
        "rolling update with Drain",
        {f"{W}.updateStrategy": {"type": "Drain", "rollingUpdate": {}}},
        {f"{W}.updateStrategy": {"type": "Drain"}},
        "needs type: RollingUpdate",
    ),
    *(
        Case(f"{name!r} as the name", {"metadata.name": name}, {"metadata.name": "shop-orders"}, "must be lower-case")
        for name in ("shop.orders", "1orders")
    ),
    *(
        Case(f"{share} of the pods unavailable", {f"{W}.{field}": share}, {f"{W}.{field}": "100%"}, field)
        for share in ("150%", "00%", "05%", "-1%", "5", -1, 2_000_000, 1.5)
        for field in ("podDisruptionBudget.maxUnavailable", "updateStrategy.rollingUpdate.maxUnavailable")
    ),
    *(
        Case(f"{share} pods more", {f"{W}.{field}": share}, {f"{W}.{field}": "150%"}, field)
        for share in ("00%", "010%", "10000%", "all", -1)
        for field in ("updateStrategy.rollingUpdate.maxSurge",)
    ),
    Case(
        "a label of the operator",
        {f"{W}.metadata.labels": {"app.kubernetes.io/name": "x"}},
        {f"{W}.metadata.labels": {"app.kubernetes.io/version": "1.0"}},
        "sets app.kubernetes.io/name",
    ),
    Case(
        "a label that is none",
        {f"{W}.metadata.labels": {"a b": "x"}},
        {f"{W}.metadata.labels": {"example.com/a_b": "x"}},
        "at most 63 letters",
    ),
    Case(
        "a label's value that is none",
        {f"{W}.metadata.labels": {"team": "a b"}},
        {f"{W}.metadata.labels": {"team": ""}},
        "team",
    ),
    Case(
        "an annotation that is none",
        {f"{W}.metadata.annotations": {"/x": "x"}},
        {f"{W}.metadata.annotations": {"x": "any text: ä"}},
        "at most 63 letters",
    ),
    Case(
        "an annotation of the Deployment controller",
        {f"{W}.metadata.annotations": {"deployment.kubernetes.io/revision": "1"}},
        {f"{W}.metadata.annotations": {"example.com/revision": "1"}},
        "written by programs",
    ),
    Case("a field that no template has", {f"{W}.template": {"spce": {}}}, {f"{W}.template": {"spec": {}}}, "spce"),
    Case("a long name", {"metadata.name": "x" * 48}, {"metadata.name": "x" * 47}, "at most 47 characters"),
    Case("no app", {f"{W}.app": "shop.tasks"}, {}, "app"),
]
