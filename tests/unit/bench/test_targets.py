from __future__ import annotations

import pytest
from bench.features.cases import FEATURES
from bench.figures import Figure
from bench.targets import Target, verdicts

PYTHON = ["taskfleet", "dramatiq", "rq"]


def figure(peer: str, scenario: str, metric: str, *runs: float) -> Figure:
    return Figure(peer, "1.0", scenario, metric, "", runs)


def judge(*figures: Figure) -> list[Target]:
    return verdicts(figures, PYTHON)


def test_a_rate_is_judged_by_the_ratio_of_medians_within_the_run() -> None:
    ours = figure("taskfleet", "drain", "tasks_per_second", 10.0, 41.0, 90.0)
    (verdict,) = judge(ours, figure("bullmq", "drain", "tasks_per_second", 10.0))
    assert (verdict.target, verdict.measured, verdict.met) == ("≥ 4 times bullmq", "4.1 times", True)
    (verdict,) = judge(ours, figure("bullmq", "drain", "tasks_per_second", 10.3))
    assert not verdict.met


def test_the_python_target_is_against_the_best_of_them_and_names_it() -> None:
    rates = [("taskfleet", 100.0), ("rq", 1.0), ("dramatiq", 8.0), ("bullmq", 50.0)]
    found = judge(*(figure(peer, "drain", "tasks_per_second", rate) for peer, rate in rates))
    (verdict,) = [verdict for verdict in found if "Python" in verdict.target]
    assert verdict.target == "≥ 15 times dramatiq, the best Python peer"
    assert (verdict.measured, verdict.met) == ("12.5 times", False)


def test_latency_must_be_below_a_limit_and_ahead_of_every_peer() -> None:
    found = judge(
        figure("taskfleet", "latency", "p50", 0.45),
        figure("bullmq", "latency", "p50", 1.4),
        figure("asynq", "latency", "p50", 0.4),
    )
    assert [(verdict.target, verdict.met) for verdict in found] == [
        ("≤ 0.5 ms", True), ("less than every peer's", False),
    ]  # fmt: skip
    assert "asynq 0.4 ms" in found[1].measured


@pytest.mark.parametrize(("recovery", "met"), [(31.9, True), (32.1, False)])
def test_recovery_is_judged_by_the_lease(recovery: float, met: bool) -> None:
    (verdict,) = judge(figure("taskfleet", "kill9", "recovery", recovery), figure("taskfleet", "kill9", "lease", 30.0))
    assert verdict.met is met


@pytest.mark.parametrize("metric", ["lost", "strays"])
def test_one_lost_or_stray_task_is_too_many(metric: str) -> None:
    assert judge(figure("taskfleet", "kill9", metric, 0.0))[0].met
    assert not judge(figure("taskfleet", "kill9", metric, 1.0))[0].met


@pytest.mark.parametrize(
    ("scenario", "metric", "good", "bad"),
    [
        ("drain_rtt", "kept", 80.0, 79.9),
        ("commands", "round_trips_per_task", 0.1, 0.11),
        ("commands", "commands_per_task", 12.0, 12.1),
        ("memory", "bytes_per_waiting_task", 200.0, 201.0),
        ("chaos", "slowest_call", 20.0, 20.1),
        ("footprint", "worker_mb", 40.0, 40.1),
        ("footprint", "workers_mb", 100.0, 100.1),
        ("footprint", "operator_mb", 80.0, 80.1),
        ("million", "claim_p99_ratio", 2.0, 2.1),
        ("latency", "p99", 1.0, 1.1),
        ("result", "p50", 1.5, 1.51),
        ("ceiling", "of_bare", 60.0, 59.9),
    ],
)
def test_a_limit_may_be_reached_and_not_passed(scenario: str, metric: str, good: float, bad: float) -> None:
    assert [verdict.met for verdict in judge(figure("taskfleet", scenario, metric, good))] == [True]
    assert [verdict.met for verdict in judge(figure("taskfleet", scenario, metric, bad))] == [False]


def test_figures_of_peers_alone_judge_nothing() -> None:
    assert judge(figure("bullmq", "drain", "tasks_per_second", 1.0), figure("rq", "latency", "p50", 1.0)) == []


def costs(**worker_us: float) -> list[Figure]:
    """Figures of all features, each at 10 µs in the worker and 5 µs in Redis where nothing else is said."""
    return [
        figure("taskfleet", "features", f"{name}.{column}", value)
        for name in FEATURES
        for column, value in (("worker_us", worker_us.get(name, 10.0)), ("redis_us", 5.0))
    ]


def test_features_over_three_times_a_plain_task_are_named_the_dearest_first() -> None:
    (verdict,) = judge(*costs(chain=85.0, failing=55.0, thread=40.0))
    assert (verdict.measured, verdict.met) == ("chain of 10 6, failing 4", False)


def test_every_feature_may_cost_three_times_a_plain_task() -> None:
    (verdict,) = judge(*costs(failing=40.0))
    assert (verdict.measured, verdict.met) == ("all of them", True)


def test_the_longest_call_of_a_feature_is_held_against_its_target() -> None:
    for longest, met in ((20.0, True), (20.1, False)):
        (verdict,) = judge(figure("taskfleet", "features", "longest", longest))
        assert (verdict.what, verdict.met) == ("longest call of any feature, in Redis", met)
