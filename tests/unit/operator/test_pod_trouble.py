"""Why workers do not start, as the objects of the cluster say it."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet_operator.control.pods.pod_trouble import Trouble, trouble_of


def pod(
    name: str = "orders-worker-1-a", *, init: bool = False, ready: bool = False, **container: Any
) -> dict[str, Any]:
    listed = "initContainerStatuses" if init else "containerStatuses"
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-11-25T10:00:00Z"},
        "status": {
            "conditions": [{"type": "Ready", "status": str(ready)}],
            listed: [{"name": "prepare" if init else "worker", "image": "shop:9", "ready": ready, **container}],
        },
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def failed(message: str, created: str = "2026-11-25T10:00:00Z", status: str = "True") -> dict[str, Any]:
    condition = {"type": "ReplicaFailure", "status": status, "reason": "FailedCreate", "message": message}
    return {"metadata": {"name": "rs", "creationTimestamp": created}, "status": {"conditions": [condition]}}


TRACE = "Traceback (most recent call last):\n  File 'x.py', line 1\nModuleNotFoundError: no 'shop'\n\n"


@pytest.mark.parametrize(
    ("of", "reason", "message"),
    [
        (
            pod(**waiting("CrashLoopBackOff", "back-off 5m0s restarting"), lastState=ended(1, TRACE)),
            "CrashLoop",
            "pod orders-worker-1-a: container worker ended with exit code 1: ModuleNotFoundError: no 'shop'",
        ),
        (
            pod(state={"running": {}}, lastState=ended(137, reason="OOMKilled")),
            "CrashLoop",
            "pod orders-worker-1-a: container worker ended with exit code 137 (OOMKilled)",
        ),
        (
            pod(state=ended(2, "no such option\n")),
            "CrashLoop",
            "pod orders-worker-1-a: container worker ended with exit code 2: no such option",
        ),
        (
            pod(init=True, **waiting("CrashLoopBackOff"), lastState=ended(3, "no migration")),
            "CrashLoop",
            "pod orders-worker-1-a: init container prepare ended with exit code 3: no migration",
        ),
        (
            pod(**waiting("CreateContainerConfigError", 'secret "orders-redis" not found')),
            "CreateContainerConfigError",
            'pod orders-worker-1-a: container worker cannot be started: secret "orders-redis" not found',
        ),
        (
            pod(**waiting("RunContainerError", "exec: taskfleet: not found")),
            "RunContainerError",
            "pod orders-worker-1-a: container worker cannot be started: exec: taskfleet: not found",
        ),
    ],
)
def test_a_pod_says_why_it_does_not_start(of: dict[str, Any], reason: str, message: str) -> None:
    assert trouble_of(None, [], [of]) == Trouble(reason, message)


@pytest.mark.parametrize("reason", ["failed to create containerd task: no such file", "x" * 5000, "Ünbekannt", "a\nb"])
def test_a_reason_is_one_word_whatever_a_runtime_or_a_scheduler_calls_it(reason: str) -> None:
    unscheduled: dict[str, Any] = {"metadata": {"name": "a"}, "status": {}}
    unscheduled["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": reason}]
    refusing = failed("no")
    refusing["status"]["conditions"][0]["reason"] = reason
    stuck: dict[str, Any] = {"metadata": {"name": "d"}, "status": {}}
    stuck["status"]["conditions"] = [{"type": "Progressing", "status": "False", "reason": reason}]
    found = [
        trouble_of(None, [], [pod(**waiting(reason, "why"))]),
        trouble_of(None, [], [unscheduled]),
        trouble_of(None, [refusing], []),
        trouble_of(stuck, [], []),
    ]
    words = ["PodFailed", "PodFailed", "FailedCreate", "RolloutStopped"]
    assert [one.reason for one in found if one is not None] == words


def test_an_image_that_cannot_be_pulled_is_one_trouble() -> None:
    error = "failed to resolve: not found"
    first = trouble_of(None, [], [pod(**waiting("ErrImagePull", error))])
    then = trouble_of(
        None, [], [pod(**waiting("ImagePullBackOff", f'Back-off pulling image "shop:9": ErrImagePull: {error}'))]
    )
    assert first == then
    assert first is not None
    assert (first.reason, first.message.split(": ", 1)[1]) == (
        "ImagePull",
        f"container worker: image shop:9 cannot be pulled: {error}",
    )


def test_a_pod_that_no_node_takes() -> None:
    lonely: dict[str, Any] = {"metadata": {"name": "a"}, "status": {"phase": "Pending"}}
    said = "0/3 nodes are available: 3 Insufficient cpu."
    lonely["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    ]
    assert trouble_of(None, [], [lonely]) == Trouble("Unschedulable", f"pod a: {said}")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            'pods "o-1" is forbidden: exceeded quota: pods, requested: pods=1, used: pods=2, limited: pods=2',
            "QuotaExceeded",
        ),
        ('pods "o-1" is forbidden: violates PodSecurity "restricted:latest": privileged', "PodSecurityViolation"),
        (
            'pods "o-1" is forbidden: [maximum memory usage per Container is 1Gi, but limit is 2Gi]',
            "LimitRangeViolation",
        ),
        ('pods "o-1" is forbidden: minimum cpu usage per Pod is 1', "LimitRangeViolation"),
        ('admission webhook "images.example.com" denied the request: unsigned', "AdmissionDenied"),
        ("Internal error occurred", "FailedCreate"),
    ],
)
def test_pods_that_are_not_admitted(message: str, reason: str) -> None:
    found = trouble_of(None, [failed(message)], [])
    assert found is not None
    assert found.reason == reason
    assert found.message == "pods cannot be created: " + message.removeprefix('pods "o-1" is forbidden: ')
    assert trouble_of(failed(message), [], []) == found  # the Deployment repeats it
    assert trouble_of(None, [failed(message, status="False")], []) is None


def test_the_newest_replica_set_and_the_most_telling_pod_are_told() -> None:
    old = failed("old", created="2026-11-25T09:00:00Z")
    found = trouble_of(None, [old, failed("new")], [])
    assert found is not None
    assert found.message.endswith("new")
    crashed = pod("b", **waiting("CrashLoopBackOff"), lastState=ended(1, "last words"))
    found = trouble_of(None, [failed("new")], [pod("a", **waiting("ErrImagePull", "x")), crashed])
    assert found is not None
    assert found.message == "pod b: container worker ended with exit code 1: last words"


def refused(name: str, reason: Any, message: str, created: str) -> dict[str, Any]:
    status = {"phase": "Failed", "reason": reason, "message": message}
    return {"metadata": {"name": name, "creationTimestamp": created}, "status": status}


def test_a_pod_that_its_node_has_evicted_or_refused_is_told_until_a_newer_one_is_ready() -> None:
    memory = "The node was low on resource: memory. Container worker was using 900Mi."
    evicted = refused("a", "Evicted", memory, "2026-11-25T10:00:00Z")
    full = refused("b", "OutOfcpu", "Node didn't have enough resource: cpu", "2026-11-25T10:00:05Z")
    old, starting, new = pod("old", ready=True), pod("c", **waiting("ContainerCreating")), pod("d", ready=True)
    old["metadata"]["creationTimestamp"] = "2026-11-25T09:00:00Z"
    new["metadata"]["creationTimestamp"] = "2026-11-25T10:01:00Z"
    assert trouble_of(None, [], [old, starting], [evicted]) == Trouble("Evicted", f"pod a: {memory}")
    found = trouble_of(None, [], [starting], [full, evicted])
    assert found == Trouble("OutOfcpu", "pod b: Node didn't have enough resource: cpu")
    assert trouble_of(None, [], [starting, new], [evicted, full]) is None
    crashed = pod("e", **waiting("CrashLoopBackOff"), lastState=ended(1, "last words"))
    found = trouble_of(None, [], [crashed], [evicted])
    assert found is not None
    assert found.reason == "CrashLoop"
    odd = refused("a", "no word; " * 99, "", "2026-11-25T10:00:00Z")
    assert trouble_of(None, [], [], [odd]) == Trouble("PodFailed", "pod a: its node has ended it")


def test_a_rollout_that_has_stopped() -> None:
    condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    deployment = {"metadata": {"name": "d"}, "status": {"conditions": [condition]}}
    assert trouble_of(deployment, [], []) == Trouble("ProgressDeadlineExceeded", "timed out")


def test_what_starts_or_runs_has_no_trouble() -> None:
    running = pod(ready=True, state={"running": {}}, lastState=ended(1, "earlier"))
    starting = pod(**waiting("ContainerCreating"))
    fresh = {"metadata": {"name": "c"}, "status": {}}
    done = pod(init=True, state=ended(0))
    assert trouble_of({"metadata": {"name": "d"}}, [], [running, starting, fresh, done]) is None


def test_the_message_is_one_bounded_line() -> None:
    found = trouble_of(None, [], [pod(**waiting("CrashLoopBackOff"), lastState=ended(1, "x\x1b[2J" + "y" * 9000))])
    assert found is not None
    assert len(found.message) < 600
    assert found.message.isprintable()
