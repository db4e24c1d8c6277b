"""Rollouts by the objects of the cluster: when one is under way, and the handover of `updateStrategy: Drain`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taskfleet_operator.autoscaler import WorkerSample
from taskfleet_operator.children.pod_template import ADMITTED
from taskfleet_operator.control.pods.handover import (
    HandoverPods,
    HandoverSteps,
    OldPods,
    UnheardPods,
    admissions,
    empty_pods,
    endangered_by_template,
    handover_steps,
    retreat_steps,
)
from taskfleet_operator.control.pods.rollout import rollout_of

NOW = 1000.0


def template(image: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "shop", **labels}}, "spec": {"containers": [{"image": image}]}}


def deployment(image: str) -> dict[str, Any]:
    return {"metadata": {"name": "orders-worker"}, "spec": {"template": template(image)}}


def replica_set(image: str, *, wanted: int, pods: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"orders-worker-{image}", "uid": image},
        "spec": {"replicas": wanted, "template": template(image, **{"pod-template-hash": image})},
        "status": {"replicas": pods},
    }


def test_pods_of_two_templates_are_a_rollout() -> None:
    both = [replica_set("a", wanted=3, pods=3), replica_set("b", wanted=1, pods=1)]
    found = rollout_of(deployment("b"), both)
    assert found.under_way
    assert found.hold.startswith("a rollout is under way: 1 of 4 pods are new, and 3 old pods")
    assert rollout_of(deployment("a"), both).hold.startswith(
        "a rollout is under way: 3 of 4 pods are new, and 1 old pods"
    )


def test_a_rollout_that_is_paused_says_so() -> None:
    both = [replica_set("a", wanted=3, pods=3), replica_set("b", wanted=1, pods=1)]
    paused = deployment("b")
    paused["spec"]["paused"] = True
    assert "`kubectl rollout resume`" in rollout_of(paused, both).hold
    assert rollout_of(paused, [replica_set("b", wanted=3, pods=3)]).hold == ""


def test_a_template_that_its_controller_has_not_seen_is_a_rollout() -> None:
    assert rollout_of(deployment("b"), [replica_set("a", wanted=3, pods=3)]).under_way


def test_a_replica_set_without_pods_is_no_rollout() -> None:
    assert not rollout_of(deployment("b"), [{"metadata": {"name": "a"}}]).under_way


def test_without_an_equal_template_the_count_of_the_controller_decides() -> None:
    defaulted = deployment("a")
    defaulted["spec"]["template"]["spec"]["newField"] = "of a later Kubernetes"
    defaulted |= {"status": {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3}}
    defaulted["metadata"]["generation"] = 2
    one = [replica_set("a", wanted=3, pods=3)]
    assert not rollout_of(defaulted, one).under_way
    defaulted["metadata"]["generation"] = 3
    assert rollout_of(defaulted, one).under_way, "it has not seen the last change"
    defaulted["status"] |= {"observedGeneration": 3, "updatedReplicas": 1}
    assert rollout_of(defaulted, one).under_way


def test_a_rollout_ends_with_the_last_old_pod() -> None:
    new = replica_set("b", wanted=3, pods=3)
    assert rollout_of(deployment("b"), [replica_set("a", wanted=0, pods=1), new]).under_way
    assert not rollout_of(deployment("b"), [replica_set("a", wanted=0, pods=0), new]).under_way
    assert rollout_of(deployment("b"), [new]).hold == ""
    assert rollout_of(deployment("b"), []).hold == ""


def pod(*, admitted: bool, ready: bool | None = None) -> dict[str, Any]:
    ready = admitted if ready is None else ready
    conditions = [{"type": "Ready", "status": str(ready)}, {"type": ADMITTED, "status": str(admitted)}]
    return {"spec": {"readinessGates": [{"conditionType": ADMITTED}]}, "status": {"conditions": conditions}}


def worker(name: str, *, busy: int = 0, state: str = "running", registered: bool = True) -> WorkerSample:
    return WorkerSample(
        name, registered, busy=busy, cordoned=state in ("cordoned", "drained"), drained=state == "drained"
    )


def steps(
    old: list[WorkerSample],
    new: list[WorkerSample],
    *,
    replicas: int,
    marked: dict[str, float] | None = None,
    **pods: dict[str, Any],
) -> HandoverSteps:
    """The steps for pods whose old ones are admitted and whose new ones are not, unless `pods` says else."""
    all_pods = {one.name: pod(admitted=True) for one in old} | {one.name: pod(admitted=False) for one in new} | pods
    there = HandoverPods(
        all_pods, {one.name: one for one in [*old, *new]}, (OldPods(frozenset(one.name for one in old), len(old)),)
    )
    return handover_steps(there, marked or {}, replicas, NOW, settle_seconds=2.0)


def test_without_a_rollout_every_pod_is_admitted() -> None:
    assert admissions({"a": pod(admitted=False), "b": pod(admitted=True), "c": {"spec": {}}}).admit == ("a",)


def test_a_version_that_does_not_start_takes_no_capacity() -> None:
    old = [worker("a"), worker("b", busy=1)]
    assert steps(old, [worker("x", registered=False), worker("y", registered=False)], replicas=2) == HandoverSteps()


def test_an_old_worker_is_cordoned_for_each_new_one_the_idle_first() -> None:
    old = [worker("a", busy=1), worker("b"), worker("c", busy=1)]
    one = [worker("x"), worker("y", registered=False)]
    assert steps(old, one, replicas=3).cordon == ("b",)
    assert len(steps(old, [worker("x"), worker("y"), worker("z")], replicas=3).cordon) == 3


def test_cordons_come_back_when_the_new_workers_go() -> None:
    old = [worker("a", busy=1, state="cordoned"), worker("b", state="drained")]
    gone = steps(old, [worker("x", registered=False)], replicas=2, marked={"b": NOW - 9})
    assert (gone.uncordon, gone.unmark, gone.admit) == (("a", "b"), ("b",), ())


def test_a_new_pod_is_admitted_for_each_old_one_that_is_drained_and_marked() -> None:
    old = [worker("a", busy=1, state="cordoned"), worker("b", state="drained"), worker("c", state="drained")]
    new = [worker("x"), worker("y"), worker("z")]
    assert steps(old, new, replicas=3).mark == ("b", "c")
    assert steps(old, new, replicas=3).admit == ()
    assert steps(old, new, replicas=3, marked={"b": NOW - 1, "c": NOW - 1}).admit == (), "not seen by Kubernetes yet"
    assert steps(old, new, replicas=3, marked={"b": NOW - 3, "c": NOW - 1}).admit == ("x",)
    admitted = steps(old, new, replicas=3, marked={"b": NOW - 3, "c": NOW - 3}, x=pod(admitted=True))
    assert admitted.admit == ("y",)


def test_what_the_watch_does_not_show_yet_counts() -> None:
    old = [worker("a", busy=1, state="cordoned"), worker("b", state="drained")]
    new = [worker("x"), worker("y")]
    pods = {one.name: pod(admitted=one in old) for one in [*old, *new]}
    workers = {one.name: one for one in [*old, *new]}
    shown = HandoverPods(pods, workers, (OldPods(frozenset("ab"), 2),))
    assert handover_steps(shown, {"b": NOW - 9}, 2, NOW, settle_seconds=2.0).admit == ("x",)
    told = replace(shown, admitted_now=frozenset("x"))
    assert handover_steps(told, {"b": NOW - 9}, 2, NOW, settle_seconds=2.0).admit == (), "a would go, busy as it is"
    workers["a"] = worker("a", busy=1)
    assert handover_steps(shown, {}, 2, NOW, settle_seconds=2.0).cordon == ("a",)
    told = replace(shown, cordoned_now=frozenset("a"))
    assert handover_steps(told, {}, 2, NOW, settle_seconds=2.0).cordon == ()


def test_old_pods_that_serve_another_redis_are_replaced_as_in_a_rolling_update() -> None:
    """Nothing would ever end a rollout that waits for them: no cordon reaches them, and they are ready."""
    old = [worker(name, registered=False) for name in "ab"]
    pods = {name: pod(admitted=name in "ab") for name in "abxy"}
    unheard, workers = UnheardPods(), {one.name: one for one in [*old, worker("x"), worker("y", registered=False)]}
    looks = [unheard.elsewhere("ab", pods, workers, NOW + second) for second in range(31)]
    assert looks == [frozenset()] * 30 + [frozenset("ab")]
    there = HandoverPods(pods, workers, (OldPods(frozenset("ab"), 2),), elsewhere=looks[-1])
    marking = handover_steps(there, {}, 2, NOW, settle_seconds=2.0)
    assert (marking.mark, marking.admit) == (("a", "b"), ())
    assert handover_steps(there, {"a": NOW - 3, "b": NOW - 3}, 2, NOW, settle_seconds=2.0).admit == ("x",)
    workers["x"] = worker("x", registered=False)
    assert handover_steps(there, {}, 2, NOW, settle_seconds=2.0) == HandoverSteps(), "the new version does not start"


def test_a_pod_is_not_elsewhere_when_its_redis_was_away_or_it_is_not_ready() -> None:
    pods = {"a": pod(admitted=True), "b": pod(admitted=True, ready=False)}
    workers = {name: worker(name, registered=False) for name in "ab"}
    unheard = UnheardPods()
    assert not unheard.elsewhere("ab", pods, workers, NOW)
    assert not unheard.elsewhere("ab", pods, workers, NOW + 40), "nothing was read in between"
    for second in range(41, 71):
        found = unheard.elsewhere("ab", pods, workers, NOW + second)
    assert found == {"a"}
    assert not unheard.elsewhere("ab", pods, workers | {"a": worker("a")}, NOW + 71)


def test_pods_beyond_the_old_number_are_admitted_at_once() -> None:
    old = [worker("a", busy=1), worker("b", busy=1)]
    found = steps(old, [worker(name) for name in "wxyz"], replicas=4)
    assert (found.admit, len(found.cordon)) == (("w", "x"), 2)


def test_an_old_pod_that_a_growing_number_added_is_admitted_before_new_ones() -> None:
    old = [worker("a", busy=1), worker("b", busy=1)]
    found = steps(old, [worker("x")], replicas=2, b=pod(admitted=False))
    assert found.admit == ("b",)


def test_no_new_pod_is_admitted_while_a_busy_old_one_is_not_ready() -> None:
    old = [worker("a", busy=1), worker("b", state="drained")]
    found = steps(old, [worker("x"), worker("y")], replicas=2, marked={"b": NOW - 9}, a=pod(admitted=True, ready=False))
    assert found.admit == ()


def test_while_another_template_waits_pods_that_are_not_ready_drain_and_old_ones_claim_again() -> None:
    old = [worker("a", busy=1, state="cordoned"), worker("b", state="drained"), worker("c")]
    new = [worker("x", busy=1), worker("y", state="drained"), worker("z", registered=False)]
    pods = {one.name: pod(admitted=one in old) for one in [*old, *new]} | {"w": pod(admitted=True)}
    pods |= {"d": pod(admitted=True, ready=False)}
    workers = {one.name: one for one in [*old, *new, worker("w", busy=1), worker("d", busy=1)]}
    there = HandoverPods(pods, workers, (OldPods(frozenset("abcd"), 4),))
    found = retreat_steps(there, {"b": NOW - 9}, 9)
    assert found == HandoverSteps(uncordon=("a", "b"), cordon=("d", "x", "z"), unmark=("b",))
    admitted = retreat_steps(there, {"b": NOW - 9}, 3)
    assert (admitted.uncordon, admitted.unmark) == (("a",), ()), "b is about to be removed for w"
    assert empty_pods(there, held=()) == {"b", "y"}
    assert empty_pods(there, held="dxz") == {"b", "y", "z"}, "the worker of z will find its cordon before it claims"


def test_another_template_waits_for_every_pod_that_is_not_ready_unless_it_is_known_to_be_empty() -> None:
    # The kubelet tells the start of a container later than its worker claims.
    answering = pod(admitted=False)
    answering["status"]["containerStatuses"] = [{"name": "worker", "ready": True}]
    pods = {"a": pod(admitted=True), "x": pod(admitted=False), "y": answering, "old-fashioned": {"spec": {}}}
    assert endangered_by_template(pods, (), unread=False) == ["x", "y"]
    assert endangered_by_template(pods, ("y",), unread=False) == ["x"]
    assert endangered_by_template(pods, (), unread=True) == ["y"], "x reaches no Redis either"


def test_after_an_undo_the_pods_that_are_new_again_are_uncordoned() -> None:
    found = steps([worker("x")], [worker("a", state="drained")], replicas=1, marked={"a": NOW - 9})
    assert (found.uncordon, found.unmark) == (("a",), ("a",))
