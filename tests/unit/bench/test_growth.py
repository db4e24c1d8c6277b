"""The page about growth: from figures, and from a small run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from bench import report
from bench.curves import CHARTS
from bench.figures import Figure
from bench.growth import __main__ as command
from bench.growth.page import page, pictures
from bench.peer import GROWING
from bench.scenarios import SCENARIOS, place_of, unit_of
from bench.scenarios.growth import decades
from bench.targets import verdicts

DOCS = Path(__file__).parents[3] / "docs" / "growth"
MACHINE = {
    "date": "2026-11-27",
    "cpu": "a processor",
    "cores": 2,
    "redis": "Redis 8",
    "python": "3.11",
    "load_average": 1,
}


def figure(scenario: str, metric: str, value: float) -> Figure:
    return Figure("taskfleet", "0.1.0", scenario, metric, unit_of(metric), (value,))


def test_sizes_grow_tenfold_to_the_last() -> None:
    assert decades(1_000, 5_000_000) == [1_000, 10_000, 100_000, 1_000_000, 5_000_000]
    assert decades(1, 1) == [1]
    assert decades(1, 10) == [1, 10]


def test_the_table_has_a_line_for_each_size_and_a_column_for_each_curve_with_its_unit() -> None:
    figures = [
        figure("grow_workers", "commands_per_worker.1", 10.0),
        figure("grow_workers", "commands_per_worker.1000", 11.0),
        figure("grow_workers", "connections_per_worker.1000", 5.0),
        figure("grow_workers", "tasks", 1000.0),
    ]
    table = report.growth_tables(figures)["grow_workers"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == ["idle workers", "commands per worker, 1/s", "connections per worker"]
    assert cells[2:] == [["1", "10", ""], ["1,000", "11", "5"]]
    assert "grow_workers" not in report.table(figures)


def test_points_of_a_curve_come_in_the_order_of_their_sizes() -> None:
    metrics = ["bytes_each.1000", "claim_p50.10000", "claim_p50.2000", "p50"]
    assert sorted(metrics, key=place_of) == ["p50", "claim_p50.2000", "claim_p50.10000", "bytes_each.1000"]


@pytest.mark.parametrize(("last", "met"), [(70.0, True), (80.0, False)])
def test_a_claim_among_many_is_held_against_one_among_few(last: float, met: bool) -> None:
    figures = [
        figure("grow_fair", f"claim_p50.{size}", us) for size, us in ((1_000, 50.0), (10_000, 90.0), (1_000_000, last))
    ]
    (verdict,) = verdicts(figures, [])
    assert verdict.what == "a claim, by fair keys, 1,000,000 / 1,000"
    assert verdict.met is met


def test_the_page_shows_tables_and_pictures_of_what_was_measured_and_says_what_was_not() -> None:
    figures = [figure("grow_limit", f"claim_p50.{size}", 50.5) for size in (1_000, 2_000)]
    text = page(MACHINE, figures)
    assert "a processor" in text
    assert "![A claim inside Redis, p50, µs](claims.svg)" in text
    assert re.search(r"\|\s+2,000 \|\s+50\.5 \|", text)
    assert "a claim, by limit keys" in text
    assert text.count("(This run has no figures for it.)") == len(GROWING) - 1 + len(CHARTS) - 1 + 1
    assert "{" not in text
    assert list(pictures(figures)) == ["claims.svg"]


def test_the_page_says_what_an_idle_worker_of_the_largest_fleet_costs() -> None:
    costs = {"commands_per_worker": 10.04, "redis_per_worker": 812.0, "bytes_per_worker": 21_500.0}
    figures = [
        figure("grow_workers", f"{curve}.{size}", cost * 10 / size) for curve, cost in costs.items() for size in (1, 10)
    ]
    text = page(MACHINE, figures)
    assert "10 commands per second, 812 µs of its processor per second, and 21,500 bytes**, in a fleet of 10." in text


@pytest.mark.timeout(300)
def test_a_small_run_fills_every_table_and_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = {
        "waiting": 300, "keys": 200, "claims": 20, "workers": 2, "queues": 10, "partitions": 3, "partitioned": 200,
        "idle-seconds": 2.2, "settle-seconds": 0.1,
    }  # fmt: skip
    arguments = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    assert command.main([str(tmp_path), *arguments]) == 0, capfd.readouterr().err
    run = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    measured = {(record["scenario"], record["metric"]): record["median"] for record in run["results"]}
    assert {scenario for scenario, _ in measured} == {f"grow_{what}" for what in GROWING}
    assert measured["grow_waiting", "claim_p50.300"] > 0
    assert measured["grow_delayed", "bytes_each.300"] > 0
    idle = [("grow_workers", f"commands_per_worker.{size}") for size in (1, 2)]
    idle += [("grow_queues", f"commands_with_queues.{size}") for size in (1, 10)]
    assert max(measured[figure] for figure in idle) > 0  # one fleet may stand still for all of its two seconds
    assert measured["grow_workers", "connections_per_worker.2"] >= 1
    assert measured["grow_cluster_3", "busiest_tasks.1"] == 100
    assert measured["grow_cluster_6", "nodes.1"] == 1
    assert measured["grow_cluster_6", "nodes.3"] > 1
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "no figures" not in text
    assert {f"{chart.name}.svg" for chart in CHARTS} == {path.name for path in tmp_path.glob("*.svg")}

    again = tmp_path / "again"
    assert command.main([str(again), "--from", str(tmp_path / "run.json")]) == 0
    for path in tmp_path.glob("*.*"):
        assert (again / path.name).read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_a_file_that_is_no_run_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text("no JSON")
    assert command.main([str(tmp_path / "page"), "--from", str(tmp_path / "run.json")]) == 1
    assert "run.json cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_the_page_in_the_documentation_is_that_of_its_run() -> None:
    run = json.loads((DOCS / "run.json").read_text(encoding="utf-8"))
    figures = [Figure.of_json(record) for record in run["results"]]
    assert (DOCS / "README.md").read_text(encoding="utf-8") == page(run["machine"], figures)
    for name, picture in pictures(figures).items():
        assert (DOCS / name).read_text(encoding="utf-8") == picture


def test_what_grows_is_a_scenario() -> None:
    assert {f"grow_{what}" for what in GROWING} <= set(SCENARIOS)
