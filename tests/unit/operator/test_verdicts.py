"""The conditions that follow from a look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskfleet_operator.autoscaler import FleetSample, ScalingDecision, ScalingOverrides, ScalingState
from taskfleet_operator.control.status import conditions
from taskfleet_operator.control.status.conditions import Condition
from taskfleet_operator.control.status.verdicts import Facts, verdicts
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import changed

SAMPLE = FleetSample((), 2, 0, current_replicas=2, ready_replicas=2)
DECISION = ScalingDecision(2, 2, "DrainTime", "", "", {}, (), ScalingState.initial(2, 0.0))
FACTS = Facts(DECISION, SAMPLE, TaskQueueResource.model_validate(changed({})), asked=2, pods=2, dead=0)


def told(**facts: Any) -> dict[str, Condition]:
    return {one.type: one for one in verdicts(replace(FACTS, **facts))}


def state(kind: str, **facts: Any) -> tuple[bool | None, str]:
    found = told(**facts)[kind]
    return found.status, found.reason


def test_a_fleet_that_is_well() -> None:
    assert {kind: (one.status, one.reason) for kind, one in told().items()} == {
        "Ready": (True, "WorkersReady"),
        "Progressing": (False, "Settled"),
        "RedisReachable": (True, "Answers"),
        "ScalingActive": (True, "Managed"),
        "ScalingLimited": (False, "NotLimited"),
        "Paused": (False, "NotPaused"),
        "Fallback": (False, "NotNeeded"),
        "QueueShared": (False, "NotShared"),
        "DeadLetters": (False, "NoDeadLetters"),
    }


def test_pods_that_do_not_start_are_told_with_their_cause() -> None:
    waiting = replace(SAMPLE, ready_replicas=1)
    assert state("Ready", sample=waiting) == (False, "WorkersNotReady")
    ready = told(sample=waiting, trouble=("ImagePull", "no such image"))["Ready"]
    assert (ready.reason, ready.message) == ("ImagePull", "1 of 2 workers are ready: no such image")
    assert state("Ready", trouble=("ImagePull", "of a new pod")) == (True, "WorkersReady")
    assert state("Progressing", sample=waiting) == (True, "Scaling")
    assert state("Progressing", rollout="2 of 4 pods are new") == (True, "RollingOut")
    assert state("Ready", asked=0, pods=0) == (True, "ScaledToZero")


def test_a_drain_is_told_until_the_pods_go() -> None:
    fewer = replace(DECISION, desired=0)
    draining = told(decision=fewer, sample=replace(SAMPLE, busy_workers=1))["Progressing"]
    assert (draining.status, draining.reason) == (True, "Draining")
    assert draining.message == "2 of 2 pods go when they are empty; 1 of the workers run tasks"
    assert state("Progressing", decision=replace(fewer, advice=True)) == (False, "Settled"), "nobody carries it out"


def test_the_advice_of_the_library_is_that_of_the_resource() -> None:
    failure = "cannot reach Redis at redis.shop.svc:6379: connection refused; start it, or set REDIS_URL"
    assert told(failure=failure)["Ready"].message.endswith("connection refused; start it, or change spec.redis")


def test_a_redis_that_does_not_answer_is_told_in_three_conditions() -> None:
    failure = "redis:6379 refuses the connection"
    failed = FleetSample.failed(failure, 2, 2)
    assert state("Ready", failure=failure) == (False, "RedisUnreachable")
    assert state("RedisReachable", failure=failure) == (False, "CannotReadQueues")
    assert state("ScalingActive", failure=failure) == (False, "FailedGetQueueMetrics")
    flapping = told(failure=failure, flapping=True)["RedisReachable"]
    assert (flapping.status, flapping.reason) == (False, "Flapping")
    assert flapping.message == f"it answers only now and then; the last error: {failure}"
    messages = {
        told(sample=failed, decision=replace(DECISION, fallback=True, message=f"({failures} in a row)"))[
            "Fallback"
        ].message
        for failures in (3, 4)
    }
    assert len(messages) == 1, "another failure is no news, and no write"
    assert "CurrentReplicas gives" in messages.pop()


def test_a_subscription_that_is_silent_is_told() -> None:
    assert state("RedisReachable", notice="work is not announced") == (True, "PollsOnly")


@pytest.mark.parametrize(
    ("overrides", "reason", "active"),
    [
        (ScalingOverrides(suspend=True), "Suspended", False),
        (ScalingOverrides(paused=True), "PausedByAnnotation", False),
        (ScalingOverrides(paused_replicas=0), "PausedAtReplicas", False),
        (ScalingOverrides(paused_scale_in=True), "ScaleInPaused", True),
        (ScalingOverrides(paused_scale_out=True), "ScaleOutPaused", True),
        (ScalingOverrides(paused_scale_in=True, paused_scale_out=True), "PausedByAnnotation", False),
    ],
)
def test_a_pause_is_told_with_its_kind(overrides: ScalingOverrides, reason: str, *, active: bool) -> None:
    sample = replace(SAMPLE, overrides=overrides)
    assert state("Paused", sample=sample) == (True, reason)
    assert state("ScalingActive", sample=sample)[0] is active


def test_a_pause_that_has_no_effect_is_not_told() -> None:
    queue = TaskQueueResource.model_validate(changed({"spec.autoscaler": {"mode": "Disabled"}}))
    for overrides in (ScalingOverrides(paused=True), ScalingOverrides(paused_replicas=7)):
        sample = replace(SAMPLE, overrides=overrides)
        assert state("Paused", sample=sample, queue=queue) == (False, "NotPaused")
        assert state("ScalingActive", sample=sample, queue=queue) == (False, "Disabled")


@pytest.mark.parametrize("mode", ["Recommend", "Disabled"])
def test_another_mode_is_not_active(mode: str) -> None:
    queue = TaskQueueResource.model_validate(changed({"spec.autoscaler": {"mode": mode}}))
    assert state("ScalingActive", queue=queue) == (False, mode)


def test_rare_conditions_are_written_when_they_are_true_for_the_first_time() -> None:
    before = conditions.merge((), verdicts(FACTS), 1, 0.0)
    assert not {"QueueShared", "DeadLetters"} & {one["type"] for one in before}
    during = conditions.merge(before, verdicts(replace(FACTS, dead=3, shared="queue a is also served by b/c")), 1, 1.0)
    after = conditions.merge(during, verdicts(FACTS), 1, 2.0)
    assert {one["type"]: one["status"] for one in during if one["status"] == "True"}.keys() >= {
        "QueueShared",
        "DeadLetters",
    }
    assert {one["type"] for one in after} == {one["type"] for one in during}
