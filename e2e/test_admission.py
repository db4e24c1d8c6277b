"""What the API server refuses by the chart: through the webhook's Service, and by the policy for authors."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.process_node_fleet import until

from e2e.cluster.kubectl import ClusterCommand, CommandError
from e2e.operator_release import BOUND, OperatorRelease
from e2e.pod_fleet import PodFleet

# OpenShift gives each namespace a range of users; the group is 0.
PLATFORM = {"runAsUser": 1000680000, "runAsGroup": 0}
AWAY = "failed calling webhook"


@pytest.fixture
def changed_operator(operator: OperatorRelease) -> Iterator[OperatorRelease]:
    """The operator for a test that upgrades it to other values."""
    yield operator
    operator.install("replicas=0")  # then both start side by side
    operator.install()


def impossible(fleet: PodFleet, name: str) -> dict[str, Any]:
    """A TaskQueue that the definition lets pass: a cron expression is a text to it."""
    made = copy.deepcopy(fleet.manifest)
    made["metadata"]["name"] = name
    made["spec"]["schedules"] = [{"name": "nightly", "schedule": "61 * * * *", "queue": "default", "task": "work"}]
    return made


def refusal(fleet: PodFleet, manifest: dict[str, Any], *options: str) -> str:
    """The words of the API server, "" when it stores the manifest."""
    try:
        fleet("create", "-f", "-", *options, stdin=json.dumps(manifest))
    except CommandError as error:
        return error.stderr
    return ""


def test_the_webhook_answers_through_its_service(
    changed_operator: OperatorRelease, fleet: PodFleet, kubectl: ClusterCommand
) -> None:
    operator = changed_operator
    says = "spec.schedules[0].schedule"

    def refused() -> bool:
        words = refusal(fleet, impossible(fleet, "refused"), "--dry-run=server")
        return 'admission webhook "taskqueues.taskfleet.io" denied the request' in words and says in words

    until(refused, "the webhook refuses it and names the field")
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=0)

    operator.install("replicas=0")
    until(lambda: not operator.pods(), "no operator is there")
    assert refusal(fleet, impossible(fleet, "stored")) == "", "failurePolicy Ignore: an absent operator refuses nothing"

    operator.install("replicas=0", "webhook.failurePolicy=Fail")
    until(lambda: AWAY in refusal(fleet, impossible(fleet, "refused"), "--dry-run=server"), "Fail refuses it")
    until(lambda: AWAY in refusal(fleet, fleet.manifest | {"metadata": {"name": "good"}}), "Fail refuses every spec")
    fleet("label", "tq", "stored", "team=shop")
    fleet("delete", "tq", "stored", "--timeout=30s")

    certificate = secret(kubectl, operator)
    ids = [f"podSecurityContext.{name}={value}" for name, value in PLATFORM.items()]
    operator.install("webhook.failurePolicy=Fail", *ids)
    assert secret(kubectl, operator) == certificate, "an upgrade keeps the certificate"
    until(refused, "the webhook answers again, as another user")
    fleet.apply(replicas=1)
    fleet.work_through(1, seconds=0.1)


def secret(kubectl: ClusterCommand, operator: OperatorRelease) -> Any:
    return kubectl.json("get", "secret", "taskfleet-webhook", "--namespace", operator.namespace)["data"]


FORBIDDEN: dict[str, tuple[dict[str, Any], str]] = {
    "a path of the node": ({"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}, "hostPath"),
    "the network of the node": ({"hostNetwork": True}, "hostNetwork"),
    "another ServiceAccount": ({"serviceAccountName": "admin"}, "serviceAccountName"),
    "a privileged container": (
        {"containers": [{"name": "worker", "securityContext": {"privileged": True}}]},
        "securityContext",
    ),
    "another team's secret": ({"volumes": [{"name": "s", "secret": {"secretName": "payroll"}}]}, "payroll"),
}


def test_an_author_gets_what_the_policy_allows_under_a_user_of_the_platform(
    operator: OperatorRelease, fleet: PodFleet, kubectl: ClusterCommand, namespace: str
) -> None:
    kubectl("label", "namespace", namespace, f"{BOUND}=on")
    role = f"{operator.namespace}:{operator.name}:edit"
    fleet("create", "rolebinding", "author", "--clusterrole", role, "--user", "author")
    with pytest.raises(CommandError, match="forbidden"):
        fleet("run", "pod", "--image=taskfleet-worker:dev", "--as=author")
    for what, (pod, says) in FORBIDDEN.items():
        asked = copy.deepcopy(fleet.manifest)
        asked["spec"]["worker"]["template"] = {"spec": pod}
        words = refusal(fleet, asked, "--as=author")
        assert "ValidatingAdmissionPolicy" in words, what
        assert says in words, what

    made = fleet.manifest
    made["spec"] |= {"replicas": 1, "autoscaler": {"mode": "Disabled"}}
    made["spec"]["worker"]["securityProfile"] = "ArbitraryUser"
    made["spec"]["worker"]["template"]["spec"]["securityContext"] = PLATFORM
    assert refusal(fleet, made, "--as=author") == ""
    fleet.work_through(1, seconds=0.1)
    (pod,) = fleet.pods()
    ids = kubectl("exec", pod, "--namespace", namespace, "--", "id")
    assert ids.startswith(f"uid={PLATFORM['runAsUser']} gid=0(root)")
