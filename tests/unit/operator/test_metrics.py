"""The operator's metrics: what is counted, and that the labels are bounded."""

from __future__ import annotations

from dataclasses import replace

from prometheus_client.core import Metric

from taskfleet.process.exposition import exposition
from taskfleet_operator.control.monitoring.loop_figures import LoopFigures, QueueFigures, RedisFigures
from taskfleet_operator.control.monitoring.metrics import TermFigures
from taskfleet_operator.control.workqueue import WorkQueue
from tests.support.operator_figures import Cluster, collector

ORDERS = ("shop", "orders")


async def _nothing(key: tuple[str, str]) -> float | None:
    return None


def figures() -> LoopFigures:
    found = LoopFigures()
    found.lag.add(0.07)
    found.lag.add(20.0)
    found.decisions["DrainTime"] += 2
    found.queues[ORDERS] = QueueFigures(6, 4, "DrainTime", "ScaleUpLimit", False, {"slots": 46.1, "backlog": 120.0})
    found.count_change(ORDERS, 4, 6)
    found.count_change(ORDERS, 6, 8)
    found.count_change(ORDERS, 8, 7)
    return found


REDIS = RedisFigures(
    reads=10, failures=1, skipped=3, read_seconds=0.02, read_seconds_total=0.5, cordons=4, listener_restarts=2,
    listening=False, dead="", decisions_recorded=7, decisions_lost=5,
)  # fmt: skip


def samples(families: dict[str, Metric], name: str) -> dict[tuple[str, ...], float]:
    return {tuple(one.labels.values()): one.value for one in families[f"taskfleet_operator_{name}"].samples}


async def test_every_figure_of_a_leader_is_shown() -> None:
    cluster = Cluster()
    cluster.calls["PATCH", "200"] = 3
    cluster.calls["WATCH", "error"] = 1
    work = WorkQueue(_nothing)
    work.add(ORDERS)
    work.add(("shop", "mail"))
    found = figures()
    families = {one.name: one for one in collector(cluster, TermFigures(work, found, [REDIS, REDIS])).collect()}
    assert samples(families, "api_calls") == {("PATCH", "200"): 3, ("WATCH", "error"): 1}
    assert samples(families, "decision_term") == {(*ORDERS, "slots"): 46.1, (*ORDERS, "backlog"): 120.0}
    assert samples(families, "desired_replicas") == {ORDERS: 6}
    assert samples(families, "scaling_limited") == {ORDERS: 1}
    assert samples(families, "scaling_rule") == {(*ORDERS, "ScaleUpLimit"): 1}
    assert samples(families, "decision_reason") == {(*ORDERS, "DrainTime"): 1}
    assert samples(families, "decision_refused") == {ORDERS: 0}
    assert samples(families, "scale_events") == {(*ORDERS, "up"): 2, (*ORDERS, "down"): 1}
    assert samples(families, "work_queue_depth") == {(): 2}
    assert samples(families, "taskqueues") == {(): 2}
    assert samples(families, "redis_reads") == {(): 20}
    assert samples(families, "redis_read_seconds") == {(): 0.02}
    assert samples(families, "skipped_records") == {(): 6}
    assert samples(families, "cordons") == {(): 8}
    assert samples(families, "deaf_listeners") == {(): 2}
    assert samples(families, "recorded_decisions") == {(): 14}
    assert samples(families, "lost_decisions") == {(): 10}
    found.count_closed(REDIS)  # no counter goes back
    found.queues[ORDERS] = replace(found.queues[ORDERS], limited_by="", refused=True)
    families = {one.name: one for one in collector(cluster, TermFigures(work, found, [REDIS])).collect()}
    assert samples(families, "redis_reads") == {(): 20}
    assert samples(families, "redis_read_failures") == {(): 2}
    assert samples(families, "redis_busy_seconds") == {(): 1}
    assert samples(families, "skipped_records") == {(): 6}
    assert samples(families, "cordons") == {(): 8}
    assert samples(families, "listener_restarts") == {(): 4}
    assert samples(families, "recorded_decisions") == {(): 14}
    assert samples(families, "lost_decisions") == {(): 10}
    assert samples(families, "redis_connections") == {(): 1}
    assert samples(families, "scaling_rule") == {}
    assert samples(families, "decision_refused") == {ORDERS: 1}
    assert {"TaskQueue", "Deployment", "Pod"} <= {kind for (kind,) in samples(families, "informer_silence_seconds")}
    text = exposition(collector(cluster, TermFigures(work, found, [REDIS])))[0].decode()
    assert 'taskfleet_operator_decision_lag_seconds_bucket{le="0.1"} 1.0' in text
    assert 'taskfleet_operator_decision_lag_seconds_bucket{le="+Inf"} 2.0' in text
    assert "taskfleet_operator_decision_lag_seconds_sum 20.07" in text


async def test_what_belonged_to_a_taskqueue_goes_with_it() -> None:
    found = figures()
    found.forget(ORDERS)
    text = exposition(collector(term=TermFigures(WorkQueue(_nothing), found, [])))[0].decode()
    assert "orders" not in text


async def test_a_standby_shows_the_same_metrics() -> None:
    standby = {(one.name, one.type) for one in collector().collect()}
    leader = {(one.name, one.type) for one in collector(term=TermFigures(WorkQueue(_nothing), figures(), [])).collect()}
    assert standby == leader
