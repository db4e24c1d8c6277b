"""What rolls the workers rolls them once."""

from __future__ import annotations

from typing import Any

from tests.controlplane.test_promises import Make, Queue, make, shared
from tests.support.operator_space import until

__all__ = ["make", "shared"]
KUBECTL = "kubectl.kubernetes.io/restartedAt"


def template(queue: Queue) -> dict[str, Any]:
    found: dict[str, Any] = queue.deployment()["spec"]["template"]["metadata"].get("annotations", {})
    return found


def revision(queue: Queue) -> int:
    """The number of the Deployment's version, 0 before Kubernetes has given it one."""
    return int(queue.deployment()["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision", 0))


def looked_again(queue: Queue) -> None:
    """Wait until the operator has handled a change that the workers do not read."""
    queue.manifest["spec"]["autoscaler"]["maxReplicas"] += 1
    queue.apply(queue.manifest)
    generation = queue.get("tq", queue.queue)["metadata"]["generation"]
    until(lambda: queue.status().get("observedGeneration") == generation, "the change is handled")


def test_a_restart_by_kubectl_stays_and_rolls_once(make: Make) -> None:
    queue = make("restarted", autoscaler={"minReplicas": 1})
    before = until(lambda: revision(queue), "it has a revision")
    queue.kubectl("rollout", "restart", f"deployment/{queue.queue}-worker", "-n", queue.name)
    until(lambda: revision(queue) == before + 1, "kubectl has rolled it")
    mark = template(queue)[KUBECTL]
    looked_again(queue)
    assert template(queue)[KUBECTL] == mark
    assert revision(queue) == before + 1
    # The TaskQueue's own restart comes on top, and leaves kubectl's mark alone.
    queue.kubectl("annotate", "tq", queue.queue, "-n", queue.name, f"{KUBECTL}=2026-11-25T10:00:00Z")
    until(lambda: template(queue).get("taskfleet.io/restarted-at") == "2026-11-25T10:00:00Z", "the operator rolls it")
    until(lambda: revision(queue) == before + 2, "the Deployment has rolled")
    looked_again(queue)
    assert template(queue)[KUBECTL] == mark
    assert revision(queue) == before + 2


def test_an_annotation_of_the_template_rolls_once(make: Make) -> None:
    scrape = {"metadata": {"annotations": {"prometheus.io/scrape": "true"}}}
    queue = make("scraped", worker={"template": scrape}, autoscaler={"minReplicas": 1})
    before = until(lambda: revision(queue), "it has a revision")
    for _ in range(3):
        looked_again(queue)
    assert template(queue)["prometheus.io/scrape"] == "true"
    assert revision(queue) == before == 1
