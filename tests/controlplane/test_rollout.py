"""Rollouts with real workers: no busy pod is taken away by a smaller number, whatever the Deployment does meanwhile."""

from __future__ import annotations

import json
import time

import pytest

from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, until

BROKEN = "registry.example/shop:broken"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def six(fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses) -> RealFleet:
    """Six ready pods, by `spec.replicas`; images with `broken` in their name cannot be pulled."""
    nodes.broken_images.add("broken")
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=6)
    until(lambda: len(fleet.ready()) == 6, "six pods are ready")
    return fleet


def test_an_undo_by_a_person_is_put_back_and_cuts_no_task_short(six: RealFleet) -> None:
    image = "registry.example/shop:2.0"
    six.apply(worker={"image": image})

    def settled() -> bool:
        return (
            six.pod_images() == {image} and len(six.ready()) == 6 and six.condition("Progressing")["status"] == "False"
        )

    until(settled, "the new version runs")
    three_busy(six)
    before = six.deployment()["metadata"]["generation"]
    six("rollout", "undo", f"deployment/{six.name}-worker")

    def put_back() -> bool:
        live = six.deployment()
        container = live["spec"]["template"]["spec"]["containers"][0]
        return bool(container["image"] == image and live["metadata"]["generation"] >= before + 2)

    until(put_back, "the operator puts it back")
    six.let_go(range(3))
    until(lambda: len(six.journal("end")) == 3, "the tasks have ended")
    six.ran_once(range(3))
    assert not six.journal("cut")
    until(settled, "the resource decides which version runs")
    until(lambda: six.condition("Reconciled").get("status") == "True", "and the status says so")


@pytest.fixture
def two_draining(fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses) -> RealFleet:
    """Two ready pods with `updateStrategy: Drain`, whose drain timeout is shorter than any task."""
    operators.start()
    fleet.apply(
        autoscaler={"mode": "Disabled"},
        replicas=2,
        worker={"updateStrategy": {"type": "Drain"}, "drainTimeoutSeconds": 1},
    )
    until(lambda: len(fleet.ready()) == 2, "two pods are admitted")
    return fleet


def three_busy(fleet: RealFleet) -> set[str]:
    """Three tasks that run until the test lets them go, and their pods."""
    fleet.enqueue(range(3))
    return until(lambda: len(found := fleet.busy()) == 3 and found, "three pods are busy")


def held(fleet: RealFleet) -> bool:
    condition = fleet.condition("ScalingLimited")
    return condition.get("reason") == "RolloutUnderWay" and "a rollout is under way" in condition["message"]


def test_a_rollout_that_hangs_takes_no_busy_pod_and_the_status_says_why(six: RealFleet) -> None:
    busy = three_busy(six)
    six.apply(worker={"image": BROKEN})
    until(lambda: len(six.pods()) > 6, "the rollout has begun, and hangs")
    six("scale", f"tq/{six.name}", "--replicas=3")
    until(lambda: held(six), "the status says why nothing is removed")
    six.let_go(range(3))
    until(lambda: len(six.journal("end")) == 3, "the tasks have ended")
    six.ran_once(range(3))
    assert busy <= six.pods().keys()
    assert six.replicas() == 6
    six.apply(worker={"image": "registry.example/shop:1.0"}, replicas=3)
    until(lambda: len(six.pods()) == 3, "after the undo three remain")


def test_a_rollout_that_hangs_does_not_keep_idle_pods_for_ever(six: RealFleet) -> None:
    six.apply(worker={"image": BROKEN})
    until(lambda: len(six.pods()) > 6, "the rollout has begun, and hangs")
    busy = three_busy(six)
    six("patch", "tq", six.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: six.condition("Paused").get("reason") == "Suspended", "the operator has seen it")
    six.let_go(range(3))
    until(lambda: len(six.journal("end")) == 3, "the tasks have ended")
    six.ran_once(range(3))
    assert set.union(*map(set, six.journal("end").values())) == busy
    until(lambda: not six.pods(), "with nothing left to do, all pods go")


def test_a_restart_and_a_smaller_number_at_once_take_no_busy_pod(six: RealFleet) -> None:
    # Every pod is replaced, the busy ones too: they drain for up to drainTimeoutSeconds. None is cut short.
    busy = three_busy(six)
    restart = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}
    six("patch", "tq", six.name, "--type=merge", "-p", json.dumps(restart | {"spec": {"replicas": 4}}))
    until(lambda: busy - six.pods().keys(), "a busy one is on its way out")
    six.let_go(range(3))
    until(lambda: len(six.journal("end")) == 3, "the tasks have ended")
    six.ran_once(range(3))
    until(lambda: six.replicas() == 4 and len(six.ready()) == 4, "four remain, all of them new")


def test_with_drain_new_pods_claim_at_once_and_old_ones_finish_what_they_run(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    # A drain timeout that is shorter than the tasks: a pod that is removed while it is busy cuts its task short.
    fleet.apply(
        autoscaler={"mode": "Disabled"},
        replicas=3,
        worker={"updateStrategy": {"type": "Drain"}, "drainTimeoutSeconds": 1},
    )
    until(lambda: len(fleet.ready()) == 3, "three pods are admitted")
    old = fleet.ready()
    fleet.enqueue(range(3))
    until(lambda: fleet.busy() == old, "all are busy")
    fleet.apply(worker={"image": "registry.example/shop:2.0"})
    fleet.enqueue(range(3, 6), seconds=0.1)
    until(lambda: len(fleet.journal("end")) == 3, "the new pods have run the new tasks")
    assert fleet.journal("end").keys() == {3, 4, 5}
    assert set(fleet.images("start").values()) == {"registry.example/shop:1.0", "registry.example/shop:2.0"}
    assert old <= fleet.pods().keys()
    until(lambda: "old pods" in fleet.condition("Progressing").get("message", ""), "the status says so")
    fleet.let_go(range(3))
    until(lambda: len(fleet.journal("end")) == 6, "the old tasks have ended")
    fleet.ran_once(range(6))
    assert not fleet.journal("cut")
    until(lambda: len(fleet.ready()) == 3 and not fleet.pods().keys() & old, "three new pods remain")
    until(lambda: not fleet.cordoned() & fleet.pods().keys(), "none of them is cordoned")


def test_with_drain_a_version_that_does_not_start_takes_nothing_from_the_old_pods(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    nodes.broken_images.add("broken")
    operators.start()
    fleet.apply(autoscaler={"mode": "Disabled"}, replicas=2, worker={"updateStrategy": {"type": "Drain"}})
    until(lambda: len(fleet.ready()) == 2, "two pods are admitted")
    old = fleet.ready()
    fleet.apply(worker={"image": BROKEN})
    until(lambda: len(fleet.pods()) == 4, "the new pods are there, and cannot start")
    fleet.enqueue(range(10), seconds=0.2)
    until(lambda: len(fleet.journal("end")) == 10, "the old ones have run the tasks")
    fleet.ran_once(range(10))
    assert not fleet.cordoned()
    assert fleet.ready() == old
    fleet.apply(worker={"image": "registry.example/shop:3.0"})
    until(lambda: len(fleet.ready()) == 2 and not fleet.pods().keys() & old, "a good version replaces them")


def test_with_drain_an_undo_in_the_middle_cuts_no_task_short(two_draining: RealFleet) -> None:
    two_draining.enqueue(range(2))
    old = until(lambda: len(found := two_draining.busy()) == 2 and found, "both are busy")
    two_draining.apply(worker={"image": "registry.example/shop:2.0"})
    two_draining.enqueue(range(2, 4))
    until(lambda: len(two_draining.busy()) == 4, "new pods run tasks beside the old ones")
    two_draining.apply(worker={"image": "registry.example/shop:1.0"})
    until(
        lambda: two_draining.condition("Reconciled").get("reason") == "RolloutWaits", "the undo waits for the new pods"
    )
    two_draining.let_go(range(4))
    until(lambda: len(two_draining.journal("end")) == 4, "all tasks have ended")
    two_draining.ran_once(range(4))
    assert not two_draining.journal("cut")
    until(
        lambda: two_draining.pods().keys() == old and two_draining.ready() == old, "the old pods are there", seconds=90
    )
    until(lambda: two_draining.condition("Reconciled").get("status") == "True", "nothing waits")
    two_draining.enqueue([4], seconds=0.1)
    until(lambda: 4 in two_draining.journal("end"), "they claim tasks again")


def test_with_drain_a_queue_is_suspended_also_while_a_template_waits(two_draining: RealFleet) -> None:
    two_draining.enqueue(range(2))
    until(lambda: len(two_draining.busy()) == 2, "both are busy")
    two_draining.apply(worker={"image": "registry.example/shop:2.0"})
    two_draining.enqueue(range(2, 4))
    until(lambda: len(two_draining.busy()) == 4, "new pods run tasks beside the old ones")
    two_draining.apply(worker={"image": "registry.example/shop:3.0"})
    until(lambda: two_draining.condition("Reconciled").get("reason") == "RolloutWaits", "the third template waits")
    two_draining("patch", "tq", two_draining.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: two_draining.cordoned() >= two_draining.pods().keys(), "all pods are cordoned, the first ones too")
    two_draining.enqueue(range(4, 8), seconds=0.1)
    two_draining.let_go(range(4))
    until(lambda: not two_draining.pods(), "all pods go when the tasks have ended")
    assert two_draining.journal("end").keys() == set(range(4))
    assert not two_draining.journal("cut")


def test_with_drain_templates_that_follow_each_other_at_any_moment_cut_no_task_short(two_draining: RealFleet) -> None:
    two_draining.enqueue(range(40), seconds=2.5)
    for version in range(2, 7):
        image = f"registry.example/shop:{version}.0"
        two_draining.apply(worker={"image": image})
        until(lambda image=image: image in two_draining.pod_images(), f"there are pods of version {version}")
    until(lambda: len(two_draining.journal("end")) == 40, "all tasks have ended")
    two_draining.ran_once(range(40))
    assert not two_draining.journal("cut")
    until(lambda: two_draining.condition("Reconciled").get("status") == "True", "nothing waits")


def test_with_drain_a_first_version_that_never_starts_gives_way_long_before_the_next_poll(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    """No rollout is under way, and its pods are not ready: looks of their own cordon them and find them empty."""
    operators.start()
    fleet.apply(
        autoscaler={"mode": "Disabled", "pollIntervalSeconds": 300},
        replicas=2,
        worker={"updateStrategy": {"type": "Drain"}, "image": "registry.example/crashing:1.0"},
    )
    until(lambda: fleet.condition("Ready").get("reason") == "CrashLoop", "it does not start")
    fleet.apply(worker={"image": "registry.example/shop:2.0"})
    images = {"registry.example/shop:2.0"}
    until(lambda: len(fleet.ready()) == 2 and fleet.pod_images() == images, "the next version runs")


def test_with_drain_pods_for_which_there_is_no_node_give_way_long_before_the_next_poll(
    fleet: RealFleet, operators: OperatorProcesses
) -> None:
    """Nothing happens to such a pod that would wake the loop."""
    operators.start()
    fleet.apply(
        autoscaler={"mode": "Disabled", "pollIntervalSeconds": 300},
        replicas=2,
        worker={"updateStrategy": {"type": "Drain"}},
    )
    until(lambda: len(fleet.pods()) == 2 and fleet.condition("Reconciled").get("status") == "True", "they are pending")
    fleet.apply(worker={"image": "registry.example/shop:2.0"})

    def applied() -> bool:
        containers = fleet.deployment()["spec"]["template"]["spec"]["containers"]
        return bool(containers[0]["image"] == "registry.example/shop:2.0")

    until(applied, "the next version is applied")


def test_with_drain_a_change_to_another_redis_comes_to_an_end(two_draining: RealFleet) -> None:
    old = two_draining.ready()
    two_draining.apply(redis={"url": two_draining.manifest["spec"]["redis"]["url"].rsplit("/", 1)[0] + "/1"})
    until(lambda: len(two_draining.pods().keys() - old) == 2, "new pods start")
    until(
        lambda: len(two_draining.ready() - old) == 2 and not two_draining.pods().keys() & old,
        "they replace the old ones",
        seconds=120,
    )
    assert "HandoverByRollingUpdate" in {one["reason"] for one in two_draining.events()}


def test_with_drain_a_queue_that_is_suspended_in_the_middle_starts_nothing_more(two_draining: RealFleet) -> None:
    """Nothing either when the drain takes longer than its limit, and none of the pods is drained before the others."""
    two_draining.apply(autoscaler={"pollIntervalSeconds": 30, "scaleDown": {"drainTimeoutSeconds": 3}})
    two_draining.enqueue(range(2))
    until(lambda: len(two_draining.busy()) == 2, "both are busy")
    two_draining.apply(worker={"image": "registry.example/shop:2.0"})
    two_draining.enqueue(range(2, 4))
    until(lambda: len(two_draining.busy()) == 4, "the new pods claim")
    two_draining("patch", "tq", two_draining.name, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    until(lambda: two_draining.cordoned() >= two_draining.pods().keys(), "all pods are cordoned, the new ones too")
    two_draining.enqueue(range(4, 8), seconds=0.1)
    time.sleep(10)  # longer than the limit of a drain
    two_draining.let_go(range(4))
    until(lambda: not two_draining.pods(), "all pods go when the old tasks have ended")
    assert two_draining.journal("end").keys() == {0, 1, 2, 3}
    assert not two_draining.journal("cut")
    two_draining("patch", "tq", two_draining.name, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    until(lambda: len(two_draining.journal("end")) == 8, "the others follow")
    two_draining.ran_once(range(8))
