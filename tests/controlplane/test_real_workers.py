"""Real workers in the pods of a TaskQueue: `tests/support/process_node.py` runs them as local processes."""

from __future__ import annotations

from tests.support.process_node import ProcessNodes
from tests.support.process_node_fleet import OperatorProcesses, RealFleet, pod_condition, until


def test_a_task_brings_a_pod_and_is_run_and_the_pod_goes(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply()
    until(lambda: fleet.replicas() == 0, "the Deployment is there, without pods")
    fleet.enqueue([1])
    (pod,) = until(fleet.ready, "one pod is ready")
    assert "worker" in nodes.log(pod)
    fleet.let_go([1])
    until(lambda: fleet.journal("end"), "the task has ended")
    assert fleet.journal("end") == {1: [pod]}
    until(lambda: not fleet.pods(), "the pod is gone")
    until(lambda: not nodes.pods, "its process has ended")
    fleet.ran_once([1])


def test_a_container_that_ends_is_started_again_and_its_last_words_are_in_the_status(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    template = {"spec": {"containers": [{"name": "worker", "terminationMessagePolicy": "FallbackToLogsOnError"}]}}
    fleet.apply(worker={"image": "registry.example/shop:crashing", "template": template}, autoscaler={"minReplicas": 1})

    def container() -> dict[str, object]:
        statuses = [pod["status"].get("containerStatuses") for pod in fleet.pods().values()]
        return next((one[0] for one in statuses if one), {})

    found = until(
        lambda: (one := container()).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff" and one,
        "it is in a crash loop",
    )
    assert found["restartCount"] >= 1
    assert "no module named shop.prices" in found["lastState"]["terminated"]["message"]
    nodes.broken_images.add("shop:broken")
    fleet.apply(worker={"image": "registry.example/shop:broken"})

    def reasons() -> set[str]:
        statuses = [pod["status"].get("containerStatuses") or [{}] for pod in fleet.pods().values()]
        return {one[0].get("state", {}).get("waiting", {}).get("reason", "") for one in statuses}

    until(lambda: "ImagePullBackOff" in reasons(), "the image cannot be pulled")
    nodes.broken_images.clear()
    until(fleet.ready, "it can be pulled again")


def test_a_closed_readiness_gate_keeps_a_pod_from_being_ready(
    fleet: RealFleet, nodes: ProcessNodes, operators: OperatorProcesses
) -> None:
    operators.start()
    fleet.apply(
        worker={"template": {"spec": {"readinessGates": [{"conditionType": "example.com/open"}]}}},
        autoscaler={"minReplicas": 1},
    )

    def waiting() -> str:
        pods = fleet.pods().items()
        return next((name for name, pod in pods if pod_condition(pod, "ContainersReady") == "True"), "")

    pod = until(waiting, "its container is ready")
    assert pod not in fleet.ready()
    condition = '{"status": {"conditions": [{"type": "example.com/open", "status": "True"}]}}'
    fleet("patch", "pod", pod, "--subresource=status", "--type=strategic", "-p", condition)
    until(lambda: pod in fleet.ready(), "the pod is ready")
    assert pod_condition(fleet.pods()[pod], "example.com/open") == "True"
