"""The API server takes the children of every kind of TaskQueue, in a namespace with Pod Security `restricted`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand

from taskfleet_operator.children import children_of
from taskfleet_operator.children.strategic_merge import MERGE_KEYS
from taskfleet_operator.resource.manifest import parse
from tests.support.documented import documented
from tests.support.manifests import REF, changed

R, W = "spec.redis", "spec.worker"
SAFE = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
TLS = {"mode": "Enabled", "caSecretRef": REF, "clientCertSecretName": "client", "serverName": "redis"}
MANIFESTS: dict[str, dict[str, Any]] = {
    "the smallest": {},
    "Sentinel with TLS and every secret": {
        R: {
            "mode": "Sentinel",
            "sentinel": {"masterName": "m", "addresses": ["s0:26379", "[::1]:26379"], "passwordSecretRef": REF},
            "auth": {"username": "worker", "passwordSecretRef": REF},
            "tls": TLS,
        }
    },
    "Cluster": {R: {"mode": "Cluster", "cluster": {"addresses": ["c0:6379"]}, "tls": {"mode": "Enabled"}}},
    "Drain": {f"{W}.updateStrategy": {"type": "Drain"}},
    "an arbitrary user": {f"{W}.securityProfile": "ArbitraryUser", f"{W}.topologySpread": {"mode": "Disabled"}},
    "labels and annotations": {
        f"{W}.metadata": {"labels": {"team": "shop"}, "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:r"}}
    },
    "the longest name": {"metadata.name": "x" * 47},
    "shares": {
        f"{W}.updateStrategy": {"rollingUpdate": {"maxSurge": "150%", "maxUnavailable": "100%"}},
        f"{W}.podDisruptionBudget": {"maxUnavailable": "100%"},
    },
    "one port of two protocols": {
        f"{W}.template": {
            "spec": {
                "containers": [
                    {
                        "name": "worker",
                        "ports": [
                            {"containerPort": 53, "name": "a"},
                            {"containerPort": 53, "protocol": "UDP", "name": "b"},
                        ],
                    }
                ]
            }
        }
    },
    "sidecars and init containers": {
        f"{W}.template": {
            "metadata": {"annotations": {"prometheus.io/scrape": "true"}},
            "spec": {
                "initContainers": [
                    {"name": "fetch", "image": "fetch:1", "securityContext": SAFE},
                    {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "securityContext": SAFE},
                ],
                "containers": [
                    {"name": "worker", "resources": {"limits": {"memory": "1Gi"}}},
                    {"name": "logs", "image": "logs:1", "securityContext": SAFE},
                ],
                "topologySpreadConstraints": [
                    {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
                ],
            },
        }
    },
}


@pytest.mark.parametrize("name", [*MANIFESTS, *documented()])
def test_the_api_server_takes_the_children(name: str, kubectl: ClusterCommand, namespace: str) -> None:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    manifest = changed(MANIFESTS[name]) if name in MANIFESTS else documented()[name]
    manifest["metadata"]["namespace"] = namespace
    children = children_of(parse(manifest, name), {})
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": children}))
    (template,) = [child["spec"]["template"] for child in children if child["kind"] == "Deployment"]
    # A Deployment is only warned about. The pod itself is refused.
    metadata = {**template["metadata"], "name": "one", "namespace": namespace}
    pod = {**template, "apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))


def test_the_pods_run_on_every_architecture_and_take_the_zones_softly() -> None:
    (template,) = [
        c["spec"]["template"]["spec"] for c in children_of(parse(changed({}), "x")) if "strategy" in c.get("spec", {})
    ]
    assert not {"nodeSelector", "affinity", "nodeName"} & set(template)
    spread = template["topologySpreadConstraints"]
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]


def test_lists_merge_by_the_keys_that_the_api_server_declares(kubectl: ClusterCommand) -> None:
    schemas = json.loads(kubectl("get", "--raw", "/openapi/v3/api/v1"))["components"]["schemas"]
    found: dict[str, set[tuple[str, ...]]] = {}
    seen: set[str] = set()

    def walk(name: str) -> None:
        if name in seen:
            return
        seen.add(name)
        for field, schema in schemas[name].get("properties", {}).items():
            if schema.get("x-kubernetes-list-type") == "map":
                found.setdefault(field, set()).add(tuple(schema["x-kubernetes-list-map-keys"]))
            elif schema.get("type") == "array":
                assert field not in MERGE_KEYS, f"{name}.{field} is replaced"
            for part in (schema, schema.get("items", {}), schema.get("additionalProperties", {})):
                for reference in (part, *part.get("allOf", ())):
                    if "$ref" in reference:
                        walk(reference["$ref"].rpartition("/")[2])

    walk("io.k8s.api.core.v1.PodTemplateSpec")
    assert len(seen) > 50
    del found["ownerReferences"]  # of the metadata, where a template has none
    assert found == {field: {keys} for field, keys in MERGE_KEYS.items()}
