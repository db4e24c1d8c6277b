"""The rules of /alerts, the objectives of /sla, and the window that they compare in: pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskfleet.integrations.observing import rules
from taskfleet.integrations.observing.machine_reports import ServerReport
from taskfleet.integrations.observing.queue_reports import QueueReport, WorkerReport
from taskfleet.integrations.observing.recent import GrowthOfQueue, RecentLooks, Window
from taskfleet.integrations.observing.rules import JudgedFigures, Thresholds
from taskfleet.protocol.stats import QueueStats

QUEUE = QueueReport(
    name="q", paused=False, ready=0, in_flight=0, delayed=0, due=0, parked=0, blocked=0, dead=0,
    oldest_age_seconds=None, enqueued_total=0, finished_total=0, failed_total=0, attempts_total=0,
    busy_seconds_total=0, max_length=None, workers=1,
)  # fmt: skip
WORKER = WorkerReport(
    worker_id="w/0", name="w", pid=1, state="running", queues=["q"], slots=4, busy=0, stuck=0, heartbeat_age_seconds=1,
    idle_seconds=None, oldest_run_seconds=None, started_at=None, version="1",
)  # fmt: skip
SERVER = ServerReport(
    address="r:1", version="9", uptime_seconds=1, role="master", connected_clients=1, commands_per_second=0,
    memory_bytes=80, peak_memory_bytes=80, memory_limit_bytes=100, memory_policy="noeviction", memory_ratio=0.8,
    evicted_keys=0, persistent=True,
)  # fmt: skip
WINDOW = Window(60.0, {"q": GrowthOfQueue(0, 0, 0, 0, 0)})
STATS = QueueStats(0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0, False)


def figures(
    queue: dict[str, Any] | None = None,
    worker: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    *,
    window: Window | None = WINDOW,
    unreadable: dict[str, str] | None = None,
) -> JudgedFigures:
    return JudgedFigures(
        queues=[QUEUE.model_copy(update=queue or {})],
        unreadable=unreadable or {},
        workers=[WORKER.model_copy(update=worker or {})],
        servers=[SERVER.model_copy(update=server or {})],
        servers_unknown=None,
        window=window,
    )


def grown(**growth: int) -> Window:
    return Window(60.0, {"q": replace(GrowthOfQueue(0, 0, 0, 0, 0), **growth)})


@pytest.mark.parametrize(
    ("found", "alert"),
    [
        (figures(), None),
        (figures({"ready": 1, "oldest_age_seconds": 60.0}), None),
        (figures({"ready": 1, "oldest_age_seconds": 60.1}), ("oldest_task", "warning", 60.1, 60)),
        (figures({"ready": 1, "workers": 0}), ("no_worker", "critical", 0, 1)),
        (figures({"in_flight": 1, "workers": 0}), ("no_worker", "critical", 0, 1)),
        (figures({"delayed": 1, "workers": 0}), None),
        (figures({"delayed": 1, "due": 1, "workers": 0}), ("no_worker", "critical", 0, 1)),
        (figures({"paused": True}), None),
        (figures({"paused": True, "ready": 2}), ("paused", "warning", 2, 0)),
        (figures({"max_length": 10, "ready": 5, "delayed": 2, "blocked": 1}), None),
        (figures({"max_length": 10, "ready": 5, "delayed": 2, "blocked": 2}), ("queue_full", "warning", 0.9, 0.9)),
        (figures({"max_length": 10, "ready": 10}), ("queue_full", "critical", 1, 0.9)),
        (figures(window=grown(failed=1)), ("dead_letters_growing", "warning", 1, 0)),
        (figures({"dead": 5}), None),
        (figures(worker={"stuck": 1}), ("stuck_worker", "warning", 1, 0)),
        (figures(worker={"stuck": 4}), ("stuck_worker", "critical", 4, 0)),
        (figures(server={"memory_ratio": 0.9}), ("redis_memory", "critical", 0.9, 0.9)),
        (figures(server={"memory_ratio": None, "memory_limit_bytes": None}), None),
        (figures(server={"memory_policy": "allkeys-lru"}), ("redis_eviction", "critical", None, None)),
        (figures(server={"memory_policy": "allkeys-lru", "memory_limit_bytes": None, "memory_ratio": None}), None),
        (figures(unreadable={"odd": "wrong type"}), ("queue_unreadable", "critical", None, None)),
    ],
)
def test_a_rule(found: JudgedFigures, alert: tuple[str, str, float | None, float | None] | None) -> None:
    alerts = [(each.rule, each.severity, each.value, each.threshold) for each in rules.alerts(found, Thresholds())]
    assert alerts == ([alert] if alert else [])


def test_every_rule_is_documented_and_tested() -> None:
    tested = {
        mark.args[1][n][1][0] for mark in test_a_rule.pytestmark for n in range(len(mark.args[1])) if mark.args[1][n][1]
    }  # type: ignore[attr-defined]
    assert tested | {"redis_unreachable"} == set(rules.RULES)


def test_what_is_not_known_is_no_good_news() -> None:
    found = replace(figures(window=None), servers=None, servers_unknown="no permission")
    assert rules.alerts(found, Thresholds()) == []
    assert {each.rule: each.reason.partition(",")[0] for each in rules.unknown(found)} == {
        "redis_memory": "no permission",
        "redis_eviction": "no permission",
        "dead_letters_growing": "this process has not looked before",
    }
    assert rules.unknown(figures()) == []


def test_thresholds_by_queue() -> None:
    thresholds = Thresholds(start_within_seconds={"q": 5, "*": 100}, new_dead_letters=3, redis_memory_ratio=0.5)
    found = figures({"ready": 1, "oldest_age_seconds": 6.0}, window=grown(failed=3))
    assert [each.rule for each in rules.alerts(found, thresholds)] == ["redis_memory", "oldest_task"]
    assert rules.target_of({"q": 5, "*": 100}, "other") == 100
    assert rules.target_of({"q": 5}, "other") is None


@pytest.mark.parametrize(
    ("found", "met", "objectives"),
    [
        (figures(window=None), None, [(None, True), (None, None)]),
        (figures(), None, [(None, True), (None, None)]),
        (figures(window=grown(finished=100, failed=1)), True, [(None, True), (0.99, True)]),
        (figures(window=grown(finished=100, failed=2)), False, [(None, True), (0.98, False)]),
        (figures({"oldest_age_seconds": 11.0}, window=None), False, [(11.0, False), (None, None)]),
        (figures({"oldest_age_seconds": 9.0}, window=grown(finished=1)), True, [(9.0, True), (1.0, True)]),
    ],
)
def test_objectives(found: JudgedFigures, met: bool | None, objectives: list[tuple[Any, Any]]) -> None:
    reports = rules.objectives(found, Thresholds(start_within_seconds=10, success_ratio=0.99))
    assert [(each.value, each.met) for each in reports] == objectives
    assert rules.all_met(reports) is met


def test_the_window_is_the_time_between_two_looks() -> None:
    now = 100.0
    looks = RecentLooks(lambda: now)
    assert looks.window_until({"q": STATS}) is None
    now = 104.0  # too short for a trend
    assert looks.window_until({"q": replace(STATS, enqueued_total=5)}) is None
    now = 110.0
    window = looks.window_until({"q": replace(STATS, enqueued_total=20, finished_total=8, failed_total=1)})
    assert window is not None
    assert window.seconds == 10.0
    assert (window.queues["q"].enqueued, window.queues["q"].finished, window.queues["q"].failed) == (20, 8, 1)
    now = 1000.0  # nobody has asked for long: the window begins at the last look
    window = looks.window_until({"q": replace(STATS, enqueued_total=30)})
    assert window is not None
    assert window.seconds == 890.0
    assert window.queues["q"].enqueued == 10


def test_the_window_is_bounded_and_few_looks_are_kept() -> None:
    now = 0.0
    looks = RecentLooks(lambda: now)
    for second in range(3000):
        now = second / 5
        window = looks.window_until({"q": replace(STATS, enqueued_total=second)})
    assert window is not None
    assert 299 <= window.seconds <= 311
    assert len(looks._looks) <= 32


def test_a_queue_that_has_lost_its_counters_has_no_growth() -> None:
    now = 0.0
    looks = RecentLooks(lambda: now)
    looks.window_until({"q": replace(STATS, enqueued_total=50)})
    now = 10.0
    window = looks.window_until({"q": replace(STATS, enqueued_total=1), "new": replace(STATS, enqueued_total=3)})
    assert window is not None
    assert "q" not in window.queues
    assert window.queues["new"].enqueued == 3
