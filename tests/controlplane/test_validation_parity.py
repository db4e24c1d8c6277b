"""`taskfleet validate` and the API server give one verdict on every manifest."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from e2e.cluster.kubectl import ClusterCommand, CommandError

from taskfleet.errors import ConfigurationError
from taskfleet_operator.children import children_of
from taskfleet_operator.resource.manifest import load_manifest, parse
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import CASES, GOOD, changed
from tests.support.mutations import all_mutations

LEAST = 150


@pytest.fixture
def create(crd: None, control_plane: Path, namespace: str) -> Iterator[Callable[[Any], str | dict[str, Any]]]:
    """Creates a TaskQueue as a dry run with strict validation, as kubectl does it. Returns the refusal, or what would
    be stored."""
    config = yaml.safe_load(control_plane.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context()
    if "certificate-authority-data" in cluster:
        context.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    else:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(urlsplit(cluster["server"]).netloc, context=context, timeout=30)
    path = f"/apis/taskfleet.io/v1alpha1/namespaces/{namespace}/taskqueues?dryRun=All&fieldValidation=Strict"
    headers = {"Authorization": f"Bearer {user['token']}", "Content-Type": "application/json"}

    def post(manifest: Any) -> str | dict[str, Any]:
        connection.request("POST", path, json.dumps(as_kubectl_sends(manifest)), headers)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        assert answer.status in {201, 400, 422, 500}, body
        return dict(body) if answer.status == 201 else str(body["message"])

    yield post
    connection.close()


def as_kubectl_sends(value: Any) -> Any:
    """Go writes the float 1.0 as 1. (Sent as 1.0, an integer passes the schema, and fails in a rule that reads it.)"""
    if isinstance(value, dict):
        return {key: as_kubectl_sends(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_kubectl_sends(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and value < 1e21 else value


def verdict(manifest: Any) -> str:
    try:
        parse(json.loads(json.dumps(manifest)), "manifest")
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.timeout(900)  # some 2,000 requests, on a machine that may be busy
def test_both_give_one_verdict(create: Callable[[Any], str | dict[str, Any]]) -> None:
    """And what the API server accepts, with its defaults and without its nulls, the operator can read."""
    manifests = [
        *all_mutations(),
        *((f"{case.name}: bad", changed(case.bad)) for case in CASES),
        *((f"{case.name}: good", changed(case.good)) for case in CASES),
    ]
    assert len(manifests) >= LEAST
    stored = {name: create(manifest) for name, manifest in manifests}
    verdicts = [
        (name, refusal if isinstance(refusal := stored[name], str) else "", verdict(manifest))
        for name, manifest in manifests
    ]
    differ = [
        f"{name}\n    API server: {theirs[:300] or 'accepts'}\n    validate:   {ours[:300] or 'accepts'}"
        for name, theirs, ours in verdicts
        if bool(theirs) != bool(ours)
    ]
    assert not differ, f"{len(differ)} of {len(manifests)} differ:\n" + "\n".join(differ)
    for body in stored.values():
        if not isinstance(body, str):
            children_of(TaskQueueResource.model_validate({part: body[part] for part in ("metadata", "spec")}))
    for name, body in stored.items():
        # What the definition lets a child have, the API server takes for an object's own.
        if name.startswith("worker ") and not isinstance(body, str) and body["spec"]["worker"]["metadata"]:
            assert not isinstance(stored[name.removeprefix("worker ")], str), name
    accepted = sum(not ours for _, _, ours in verdicts)
    assert accepted >= LEAST, "too few good manifests to notice a verdict that refuses too much"
    assert len(manifests) - accepted >= LEAST


TEXTS = {
    "a date": "metadata: {name: orders, annotations: {kubectl.kubernetes.io/restartedAt: 2026-11-25}}",
    "a time": "metadata: {name: orders, annotations: {kubectl.kubernetes.io/restartedAt: 2026-11-25T10:00:00Z}}",
    "a flag as an annotation": "metadata: {name: orders, annotations: {autoscaling.taskfleet.io/paused: yes}}",
    "y": "metadata: {name: orders, labels: {a: y}}",
    "n": "metadata: {name: n}",
    "a quoted n": 'metadata: {name: "n"}',
    "no name": "metadata: {name: ~}",
    "an empty value": "metadata: {name: orders, labels: }",
    "a number as a key": "metadata: {name: orders, annotations: {1: a}}",
    "base 60": "metadata: {name: orders, annotations: {a: 1:10}}",
    "a float": "metadata: {name: orders, annotations: {a: 1e1}}",
    "octal": "metadata: {name: orders, annotations: {a: 0o10}}",
    "hexadecimal": "metadata: {name: orders, annotations: {a: 0x1f}}",
    "a name of digits": "metadata: {name: 12}",
    "a key twice": "metadata: {name: orders, name: Orders}",
    "a merge": "metadata: {<<: {name: orders}}",
    "not a number": "metadata: {name: orders, annotations: {a: .nan}}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_is_read_as_kubectl_reads_it(
    name: str, crd: None, kubectl: ClusterCommand, namespace: str, tmp_path: Path
) -> None:
    spec = yaml.safe_dump({key: value for key, value in GOOD.items() if key != "metadata"})
    path = tmp_path / "orders.yaml"
    path.write_text(f"{TEXTS[name]}\n{spec}")
    try:
        kubectl("create", "--dry-run=server", "--namespace", namespace, "-f", str(path))
        theirs = ""
    except CommandError as error:
        theirs = str(error)
    try:
        load_manifest(path)
        ours = ""
    except ConfigurationError as error:
        ours = str(error)
    assert bool(theirs) == bool(ours), f"kubectl: {theirs or 'accepts'}; validate: {ours or 'accepts'}"


def test_a_number_is_the_number_that_kubectl_sends(
    crd: None, kubectl: ClusterCommand, namespace: str, tmp_path: Path
) -> None:
    for written in ("1.0", "010", "0o10", "0x10", "1_0", "1e1", "0b11", "+5"):
        path = tmp_path / "orders.yaml"
        path.write_text(yaml.safe_dump(changed({"spec.replicas": "WRITTEN"})).replace("WRITTEN", written))
        sent = kubectl.json("create", "--dry-run=server", "--namespace", namespace, "-f", str(path))
        assert load_manifest(path).spec.replicas == sent["spec"]["replicas"], written
