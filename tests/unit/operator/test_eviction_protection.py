"""Which pods ask node autoscalers to be left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet_operator.control.pods.eviction_protection import ANNOTATIONS, EvictionProtection
from tests.unit.operator.builders import worker


def running(name: str, seconds: float, *, age: float = 1.0) -> WorkerInfo:
    return replace(worker(name, busy=1 if seconds else 0, age=age), oldest_run_seconds=seconds)


def pod(name: str, *, protected: bool = False) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": name, "annotations": dict(ANNOTATIONS) if protected else {}}}


def changes(
    pods: list[dict[str, Any]],
    workers: list[WorkerInfo],
    after: float | None = 60.0,
    template: dict[str, str] | None = None,
) -> dict[str, bool]:
    by_name = {one["metadata"]["name"]: one for one in pods}
    return EvictionProtection().changes(by_name, workers, after, template or {})


def test_a_pod_is_protected_once_a_run_is_long_enough() -> None:
    assert changes([pod("a"), pod("b")], [running("a", 58.0), running("b", 60.0)]) == {"b": True}
    assert changes([pod("a")], [running("a", 1.0), replace(running("a", 99.0), worker_id="a/1")]) == {"a": True}


def test_the_protection_ends_with_the_long_run() -> None:
    assert changes([pod("a", protected=True)], [running("a", 0.0)]) == {"a": False}
    assert changes([pod("a", protected=True)], [running("a", 70.0)]) == {}
    assert changes([pod("a", protected=True)], [running("a", 70.0)], after=None) == {"a": False}


def test_with_a_limit_of_zero_every_busy_pod_is_protected_and_no_idle_one() -> None:
    assert changes([pod("a"), pod("b")], [running("a", 0.1), running("b", 0.0)], after=0) == {"a": True}


def test_a_pod_without_heartbeats_stays_as_it_is() -> None:
    assert changes([pod("a", protected=True), pod("b")], [running("b", 99.0, age=31.0)]) == {}


def test_annotations_of_the_template_are_the_users() -> None:
    template = {"karpenter.sh/do-not-disrupt": "true"}
    assert (
        changes([pod("a"), pod("b", protected=True)], [running("a", 99.0), running("b", 0.0)], template=template) == {}
    )


def test_a_change_is_written_once() -> None:
    protection = EvictionProtection()
    pods = {"a": pod("a")}
    assert protection.changes(pods, [running("a", 99.0)], 60.0, {}) == {"a": True}
    protection.patched(pods["a"], True)
    assert protection.changes(pods, [running("a", 99.0)], 60.0, {}) == {}
    assert protection.changes(pods, [running("a", 0.0)], 60.0, {}) == {"a": False}
    assert protection.changes({"a": pod("a", protected=True)}, [running("a", 99.0)], 60.0, {}) == {}
