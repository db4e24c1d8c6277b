"""The webhook's answers, without an API server. With one: tests/controlplane/test_webhook.py"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from taskfleet_operator.control.api.kubernetes_api import ApiError
from taskfleet_operator.webhook import examination
from taskfleet_operator.webhook.review import NoReviewError, answer
from tests.support.manifests import GOOD


class Cluster:
    """Answers as it is told."""

    def __init__(self) -> None:
        self.refusals: dict[str, ApiError] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.silent = False
        self.asked: list[str] = []

    async def dry_run_apply(self, body: dict[str, Any], manager: str) -> dict[str, Any]:
        if self.silent:
            await asyncio.Event().wait()
        self.asked.append(body["kind"])
        if body["kind"] in self.refusals:
            raise self.refusals[body["kind"]]
        return body

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        return {"data": self.secrets[name]} if name in self.secrets else None


def review(operation: str = "CREATE", before: Any = None, **spec: Any) -> dict[str, Any]:
    body = copy.deepcopy(GOOD)
    body["metadata"] |= {"namespace": "shop", "uid": "1"}
    body["spec"] |= spec
    return {
        "request": {
            "uid": "42",
            "kind": {"kind": "TaskQueue"},
            "operation": operation,
            "namespace": "shop",
            "name": "orders",
            "object": body,
            "oldObject": before,
        }
    }


async def asked(cluster: Cluster, request: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = (await answer(request, cluster))["response"]
    assert response["uid"] == "42"
    return response


async def test_a_good_one_is_allowed_without_a_word() -> None:
    cluster = Cluster()
    assert await asked(cluster, review()) == {"uid": "42", "allowed": True}
    assert cluster.asked == ["PodDisruptionBudget", "Deployment"]


async def test_every_error_is_named() -> None:
    schedules = [
        {"name": "a", "schedule": "61 * * * *", "queue": "default", "task": "t"},
        {"name": "b", "schedule": "@daily", "timeZone": "Nowhere", "queue": "default", "task": "t"},
    ]
    queues = [{"name": "default"}]
    response = await asked(Cluster(), review(schedules=schedules, queues=queues))
    assert not response["allowed"]
    message = response["status"]["message"]
    assert "spec.schedules[0].schedule" in message
    assert "spec.schedules[1].timeZone" in message
    assert response["status"]["code"] == 422


async def test_what_no_schema_would_let_through_is_an_answer_too() -> None:
    response = await asked(Cluster(), review(queues=5))
    assert not response["allowed"]
    assert response["status"]["message"].startswith("spec.queues: ")


async def test_a_refused_template_names_the_field() -> None:
    cluster = Cluster()
    cluster.refusals["Deployment"] = ApiError(422, "spec.template.spec.volumes[0].name: Invalid value")
    response = await asked(cluster, review())
    assert response["status"]["message"].startswith("spec.worker.template: spec.template.spec.volumes[0].name")


@pytest.mark.parametrize("error", [ApiError(403, "exceeded quota"), ApiError(503, "later"), ApiError(429, "slow down")])
async def test_what_may_pass_later_is_a_warning(error: ApiError) -> None:
    cluster = Cluster()
    cluster.refusals["Deployment"] = error
    response = await asked(cluster, review())
    assert response["allowed"]
    assert str(error) in response["warnings"][0]


async def test_a_cluster_that_does_not_answer_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "SECONDS", 0.01)
    cluster = Cluster()
    cluster.silent = True
    response = await asked(cluster, review())
    assert response["allowed"]
    assert "did not answer in time" in response["warnings"][0]


async def test_secrets_that_are_not_there_are_warnings() -> None:
    cluster = Cluster()
    redis = {
        "mode": "Sentinel",
        "sentinel": {"masterName": "m", "addresses": ["s:26379"], "passwordSecretRef": {"name": "s", "key": "p"}},
        "auth": {"passwordSecretRef": {"name": "r", "key": "password"}},
        "tls": {"mode": "Enabled", "caSecretRef": {"name": "ca", "key": "ca.crt"}, "clientCertSecretName": "client"},
    }
    cluster.secrets = {"ca": {}}
    response = await asked(cluster, review(redis=redis))
    assert response["allowed"]
    assert response["warnings"] == [
        "spec.redis.auth.passwordSecretRef: secret 'r' is not there yet",
        "spec.redis.sentinel.passwordSecretRef: secret 's' is not there yet",
        "spec.redis.tls.caSecretRef: secret 'ca' has no key 'ca.crt' yet",
        "spec.redis.tls.clientCertSecretName: secret 'client' is not there yet",
    ]


async def test_what_is_stored_can_be_labelled_and_deleted() -> None:
    bad = review("UPDATE", queues=5)
    bad["request"]["oldObject"] = copy.deepcopy(bad["request"]["object"])
    bad["request"]["object"]["metadata"]["labels"] = {"team": "shop"}
    assert (await asked(Cluster(), bad))["allowed"]
    gone = review("DELETE", queues=5)
    gone["request"]["object"] = None
    assert (await asked(Cluster(), gone))["allowed"]
    ending = review("UPDATE", before={"spec": {}}, queues=5)
    ending["request"]["object"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (await asked(Cluster(), ending))["allowed"]


@pytest.mark.parametrize("request_", [None, [], {}, {"request": {}}, {"request": {"uid": "1", "kind": None}}], ids=str)
async def test_what_is_no_review_is_an_error(request_: Any) -> None:
    with pytest.raises(NoReviewError):
        await answer(request_, Cluster())
