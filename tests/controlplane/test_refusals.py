"""Whatever goes wrong in a reconcile is told: a condition that names the field, and nothing is half applied."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from e2e.cluster.kubectl import CommandError

from tests.support.operator_space import CHILDREN, NAME, Manifest, Space, settled, told, until
from tests.support.ports import free_port


def deep(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {}
    for _ in range(levels):
        node = {"a": node}
    return node


def secret(space: Space, value: bytes) -> None:
    data = {"url": base64.b64encode(value).decode()}
    space.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "address"}, "data": data})


def test_nothing_is_half_applied(operator: object, space: Space, manifest: Manifest) -> None:
    space.apply(manifest)
    until(lambda: settled(space), "it is ready")
    before = {kind: space.get(kind, NAME)["metadata"]["resourceVersion"] for kind in ("configmaps", "services")}
    generation = space.status()["observedGeneration"]
    image = space.get("deployments", NAME)["spec"]["template"]["spec"]["containers"][0]["image"]
    # The ConfigMap would change, and the Deployment is refused after it.
    manifest["spec"]["queues"].append({"name": "another"})
    manifest["spec"]["worker"] |= {
        "image": "registry.example/shop:2.0",
        "template": {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"cpu": "a lot"}}}]}},
    }
    space.apply(manifest)
    message = told(space, "SpecValid", "Invalid")
    assert message.startswith("spec.worker.template: ")
    assert told(space, "Reconciled", "SpecInvalid") == message
    assert {kind: space.get(kind, NAME)["metadata"]["resourceVersion"] for kind in before} == before
    assert space.get("deployments", NAME)["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert space.status()["observedGeneration"] == generation, "it moves when the children are applied, not before"
    assert space.condition("SpecValid")["observedGeneration"] == generation + 1, "the condition is about the new spec"
    assert space.condition("ScalingActive")["observedGeneration"] == generation, "the loop goes on with the old one"
    manifest["spec"]["worker"]["template"] = {}
    space.apply(manifest)
    until(lambda: space.condition("SpecValid").get("status") == "True", "it is mended")
    until(lambda: "another" in space.get("configmaps", NAME)["data"]["queues.json"], "it is applied")


BAD: dict[str, dict[str, Any]] = {
    "metadata is null": {"metadata": None, "spec": {"nodeSelector": 3}},
    "a list is an object": {"spec": {"containers": {"name": "worker"}}},
    "labels is a number": {"metadata": {"labels": 3}, "spec": {"a": 1}},
    "containers is text": {"spec": {"containers": "x"}},
    "900 levels": {"spec": deep(900)},
    "5000 levels": json.loads("{}"),
    "a long unknown field": {"spec": {"a" * 5000: 1}},
}


def test_every_bad_template_is_named_and_stops_no_other(operator: object, space: Space, manifest: Manifest) -> None:
    for index, template in enumerate(BAD.values()):
        manifest["metadata"]["name"] = f"bad-{index}"
        manifest["spec"]["worker"]["template"] = template
        text = json.dumps(manifest)
        if not template:
            text = text.replace('"template": {}', '"template": {"spec": ' + '{"a":' * 5000 + "1" + "}" * 5001)
        space("create", "-f", "-", "--validate=false", stdin=text)
    manifest["metadata"]["name"] = "orders"
    manifest["spec"]["worker"]["template"] = {}
    space.apply(manifest)
    until(lambda: settled(space), "the good one is served")
    for index, name in enumerate(BAD):
        message = until(lambda index=index: refused(space, f"bad-{index}"), name)
        assert message.startswith("spec.worker.template: "), name
        assert len(message) < 1100
        assert "Traceback" not in message
        assert not space.get("configmaps", f"bad-{index}-worker")


@pytest.mark.parametrize(
    "metadata",
    [{"labels": {"a..b/team": "shop"}}, {"annotations": {f"{'a' * 300}/team": "shop"}}, {"labels": {"a-.b/x": "y"}}],
)
def test_a_key_that_no_child_could_have_is_refused_with_its_field(
    crd: None, space: Space, manifest: Manifest, metadata: dict[str, Any]
) -> None:
    manifest["spec"]["worker"]["metadata"] = metadata
    with pytest.raises(CommandError, match=rf"spec\.worker\.metadata\.{next(iter(metadata))}"):
        space.apply(manifest)


@pytest.mark.parametrize(
    ("schedule", "field"),
    [
        ({"schedule": "61 * * * *"}, "spec.schedules[0].schedule: "),
        ({"schedule": "0 3 * * *", "timeZone": "Mars/Phobos"}, "spec.schedules[0].timeZone: "),
    ],
)
def test_what_no_rule_of_the_definition_can_say_is_told_without_a_webhook(
    operator: object, space: Space, manifest: Manifest, schedule: dict[str, str], field: str
) -> None:
    manifest["spec"]["schedules"] = [{"name": "nightly", "queue": "default", "task": "report", **schedule}]
    space.apply(manifest)
    assert told(space, "SpecValid", "Invalid").startswith(field)
    assert not any(space.get(kind, NAME) for kind in CHILDREN)
    del manifest["spec"]["schedules"]
    space.apply(manifest)
    until(lambda: settled(space), "it is mended")


def test_a_taskqueue_has_64_queues_at_most(operator: object, space: Space, manifest: Manifest) -> None:
    manifest["spec"]["queues"] = [{"name": f"q{number}"} for number in range(65)]
    with pytest.raises(CommandError, match=r"spec\.queues: Too many: 65: must have at most 64 items"):
        space.apply(manifest)
    del manifest["spec"]["queues"][64]
    manifest["spec"]["schedules"] = [
        {"name": f"s{number}", "schedule": "0 3 * * *", "task": "report", "queue": f"q{number}"} for number in range(64)
    ]
    space.apply(manifest)
    until(lambda: settled(space), "the rules of 64 queues and schedules are within the budget")
    assert len(space.status()["queues"]) == 64


def refused(space: Space, name: str) -> str:
    # The whole object is more than Python's parser can read.
    conditions = json.loads(space("get", "tq", name, "-o", "jsonpath={.status.conditions}") or "[]")
    return next((one["message"] for one in conditions if one["type"] == "SpecValid" and one["status"] == "False"), "")


@pytest.mark.parametrize(
    ("value", "says"),
    [(b"\xff\xfe", "is no UTF-8 text"), (b"redis://redis?bogus=1", "(not shown) is not known"), (b"", "it is empty")],
)
def test_a_secret_that_cannot_be_used_is_named(
    operator: object, space: Space, manifest: Manifest, value: bytes, says: str
) -> None:
    secret(space, value)
    manifest["spec"]["redis"] = {"urlSecretRef": {"name": "address", "key": "url"}}
    space.apply(manifest)
    message = told(space, "Ready", "SecretMissing")
    assert "'address'" in message
    assert says in message


def test_a_forbidden_child_is_told_and_heals(operator: object, space: Space, manifest: Manifest) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"configmaps": "1"}},  # Kubernetes' own
    }
    space.apply(quota)
    until(lambda: space.get("resourcequotas", "none").get("status", {}).get("used"), "the quota counts")
    space.apply(manifest)
    message = told(space, "Ready", "QuotaExceeded")
    assert "the ConfigMap was not accepted: " in message
    assert not any(space.get(kind, NAME) for kind in CHILDREN)
    space("delete", "resourcequota", "none")
    space("annotate", "tq", "orders", "example.com/look=again")
    until(lambda: settled(space), "it is ready")


def test_an_annotation_without_meaning_stops_nothing(operator: object, space: Space, manifest: Manifest) -> None:
    manifest["metadata"]["annotations"] = {"autoscaling.taskfleet.io/paused": "yes-please"}
    manifest["spec"]["autoscaler"]["minReplicas"] = 2
    space.apply(manifest)
    message = told(space, "SpecValid", "InvalidAnnotation")
    assert message.startswith('metadata.annotations["autoscaling.taskfleet.io/paused"]: expected "true" or "false"')
    until(lambda: space.condition("Paused").get("status") == "True", "it is read as a pause")
    assert space.replicas() == 2
    assert space.status()["observedGeneration"] == 1
    assert space.condition("Reconciled")["status"] == "True"


def test_each_trouble_of_a_taskqueue_is_one_warning_event(operator: object, space: Space, manifest: Manifest) -> None:
    def warned(reason: str) -> list[str]:
        return until(lambda: space.warnings().get(reason, []), f"a Warning says {reason}", seconds=60)

    redis = manifest["spec"]["redis"]
    manifest["spec"]["redis"] = {"urlSecretRef": {"name": "address", "key": "url"}, "keyPrefix": redis["keyPrefix"]}
    space.apply(manifest)
    assert "'address'" in warned("SecretMissing")[0]
    manifest["spec"]["redis"] = redis | {"url": f"redis://127.0.0.1:{free_port()}/0"}
    space.apply(manifest)
    assert "refused" in warned("RedisUnreachable")[0]
    manifest["spec"]["redis"] = redis
    manifest["spec"]["worker"]["template"] = {"spec": {"nodeSelector": 3}}
    space.apply(manifest)
    assert warned("SpecInvalid")[0].startswith("spec.worker.template: ")
    manifest["spec"]["worker"]["template"] = {}
    manifest["metadata"]["annotations"] = {"autoscaling.taskfleet.io/pause": "true"}
    space.apply(manifest)
    assert "did you mean 'autoscaling.taskfleet.io/paused'?" in warned("InvalidAnnotation")[0]
    del manifest["metadata"]["annotations"]
    space("annotate", "tq", "orders", "autoscaling.taskfleet.io/pause-")
    until(lambda: settled(space) and space.condition("SpecValid")["status"] == "True", "all is well again")
    assert {reason: len(told) for reason, told in space.warnings().items()} == {
        "SecretMissing": 1, "RedisUnreachable": 1, "SpecInvalid": 1, "InvalidAnnotation": 1,
    }  # fmt: skip
