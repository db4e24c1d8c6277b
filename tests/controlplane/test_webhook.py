"""The validating webhook, asked by a real API server over TLS."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.kubectl import ClusterCommand, CommandError

from taskfleet.child_process import ends_with_this_process
from tests.support.certificates import Certificates
from tests.support.manifests import GOOD
from tests.support.operator_space import Manifest, Space, until
from tests.support.ports import free_port


def _put(certificates: Certificates, folder: Path) -> None:
    """As the kubelet mounts a secret: both files change at once, behind one link."""
    target = folder.parent / secrets.token_hex(4)
    target.mkdir()
    shutil.copy(certificates.server, target / "tls.crt")
    shutil.copy(certificates.server_key, target / "tls.key")
    link = folder.parent / "new"
    link.symlink_to(target)
    link.rename(folder)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def cert_dir(tmp_path: Path, certificates: Certificates) -> Path:
    (tmp_path / "mounted").mkdir()
    folder = tmp_path / "mounted" / "tls"
    _put(certificates, folder)
    return folder


def configuration(namespace: str, port: int, ca: Path) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"taskfleet-{namespace}"},
        "webhooks": [
            {
                "name": "validate.taskfleet.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 10,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [
                    {
                        "apiGroups": ["taskfleet.io"],
                        "apiVersions": ["v1alpha1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["taskqueues"],
                    }
                ],
                "clientConfig": {
                    "url": f"https://127.0.0.1:{port}/validate",
                    "caBundle": base64.b64encode(ca.read_bytes()).decode(),
                },
            }
        ],
    }


@pytest.fixture
def webhook(
    crd: None,
    kubectl: ClusterCommand,
    namespace: str,
    control_plane: Path,
    tmp_path: Path,
    certificates: Certificates,
    cert_dir: Path,
) -> Iterator[int]:
    """A standby, which answers too: somebody else holds its Lease. The port of its webhook."""
    port = free_port()
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "taskfleet-operator", "namespace": namespace},
        "spec": {"holderIdentity": "other", "leaseDurationSeconds": 60, "renewTime": "2026-01-01T00:00:00.000000Z"},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(lease))
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "taskfleet", "operator", "--namespace", namespace),
                *("--webhook-port", str(port), "--webhook-cert-dir", str(cert_dir)),
            ],
            env=os.environ | {"KUBECONFIG": str(control_plane), "POD_NAMESPACE": namespace},
            stderr=log,
            preexec_fn=ends_with_this_process(),
        )
    try:
        until(lambda: "webhook uses the certificate" in (tmp_path / "operator.log").read_text(), "it listens")
        made = configuration(namespace, port, certificates.ca)
        kubectl("apply", "-f", "-", stdin=json.dumps(made))
        yield port
    finally:
        kubectl("delete", "validatingwebhookconfiguration", f"taskfleet-{namespace}", "--ignore-not-found")
        process.kill()
        process.wait(10)
        text = (tmp_path / "operator.log").read_text()
        print(text)
    assert "Traceback" not in text


@pytest.fixture
def space(kubectl: ClusterCommand, namespace: str) -> Space:
    return Space(kubectl, namespace)


@pytest.fixture
def manifest() -> Manifest:
    made = copy.deepcopy(GOOD)
    made["spec"]["queues"] = [{"name": "default"}]
    return made


def refused(space: Space, manifest: Manifest) -> str:
    """Why it is refused; "" where it is taken, as the API server asks a new webhook only after a moment."""
    try:
        space.apply(manifest)
    except CommandError as error:
        return error.stderr
    space("delete", "tq", manifest["metadata"]["name"])  # or it would be unchanged, and never asked about again
    return ""


def schedule(**fields: Any) -> dict[str, Any]:
    return {"name": "nightly", "schedule": "0 3 * * *", "queue": "default", "task": "report", **fields}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"schedules": [schedule(schedule="61 * * * *")]}, "spec.schedules[0].schedule: schedule '61 * * * *'"),
        ({"schedules": [schedule(schedule="0 0 31 2 *")]}, "never ticks"),
        ({"schedules": [schedule(timeZone="Europe/Berlinn")]}, "spec.schedules[0].timeZone: time_zone 'Europe"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_the_schema_cannot_see_is_refused_and_the_field_named(
    webhook: int, space: Space, manifest: Manifest, spec: dict[str, Any], says: str
) -> None:
    until(lambda: says in refused(space, {**manifest, "spec": manifest["spec"] | spec}), "it is refused")
    assert "validate.taskfleet.io" in refused(space, {**manifest, "spec": manifest["spec"] | spec})
    space.apply(manifest)


@pytest.mark.parametrize(
    "template",
    [
        {"spec": {"containers": [{"name": "worker", "env": [{"name": "A", "value": 5}]}]}},
        {"spec": {"volumes": [{"name": "Not A Name", "emptyDir": {}}]}},
        {"spec": {"containers": [{"name": "sidecar"}]}},
    ],
    ids=["a type", "a name", "no image"],
)
def test_a_pod_template_that_the_cluster_would_not_take_is_refused(
    webhook: int, space: Space, manifest: Manifest, template: dict[str, Any]
) -> None:
    manifest["spec"]["worker"]["template"] = template
    until(lambda: "spec.worker.template" in refused(space, manifest), "it is refused")


def test_a_secret_that_is_not_there_is_a_warning(
    webhook: int, kubectl: ClusterCommand, space: Space, manifest: Manifest
) -> None:
    del manifest["spec"]["redis"]["url"]
    manifest["spec"]["redis"]["urlSecretRef"] = {"name": "orders-redis", "key": "url"}
    warned = until(lambda: _warnings(kubectl, space, manifest), "a warning")
    assert "spec.redis.urlSecretRef: secret 'orders-redis' is not there yet" in warned
    space("create", "secret", "generic", "orders-redis", "--from-literal=uri=redis://r:6379/0")
    assert "has no key 'url' yet" in _warnings(kubectl, space, manifest)
    assert space.get("tq", "orders") == {}, "it was a dry run"


def _warnings(kubectl: ClusterCommand, space: Space, manifest: Manifest) -> str:
    asked = subprocess.run(
        [str(kubectl.binary), "apply", "--dry-run=server", "-f", "-", "--namespace", space.name],
        env=os.environ | {"KUBECONFIG": str(kubectl.kubeconfig)},
        input=json.dumps(manifest),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return asked.stderr


def test_what_is_stored_can_be_labelled_and_deleted_although_it_is_invalid_now(
    webhook: int, kubectl: ClusterCommand, namespace: str, space: Space, manifest: Manifest, certificates: Certificates
) -> None:
    kubectl("delete", "validatingwebhookconfiguration", f"taskfleet-{namespace}")
    manifest["spec"]["schedules"] = [schedule(schedule="61 * * * *")]
    until(lambda: not _fails(space, manifest), "it is stored without the webhook")
    kubectl("apply", "-f", "-", stdin=json.dumps(configuration(namespace, webhook, certificates.ca)))
    changed, versions = copy.deepcopy(manifest), itertools.count()

    def is_asked() -> bool:
        # What is unchanged is not sent.
        changed["spec"]["worker"]["image"] = f"registry.example/shop:2.{next(versions)}"
        return _fails(space, changed)

    until(is_asked, "the webhook is asked again")
    space("label", "tq", "orders", "team=shop")
    space("delete", "tq", "orders")


def _fails(space: Space, manifest: Manifest) -> bool:
    try:
        space.apply(manifest)
    except CommandError:
        return True
    return False


def test_a_renewed_certificate_is_used_without_a_restart(
    webhook: int,
    kubectl: ClusterCommand,
    namespace: str,
    space: Space,
    manifest: Manifest,
    cert_dir: Path,
    tmp_path: Path,
) -> None:
    until(lambda: not _fails(space, manifest), "it is accepted")
    (tmp_path / "second").mkdir()
    renewed = Certificates(tmp_path / "second")
    _put(renewed, cert_dir)
    kubectl("apply", "-f", "-", stdin=json.dumps(configuration(namespace, webhook, renewed.ca)))
    manifest["spec"]["worker"]["image"] = "registry.example/shop:2.0"
    until(lambda: not _fails(space, manifest), "the new authority's certificate is trusted", seconds=60)
