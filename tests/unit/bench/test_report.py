from __future__ import annotations

import json

import pytest
from bench import report
from bench.figures import Figure, number
from bench.scenarios import UNITS, pythons
from bench.targets import Target

FIGURES = [
    Figure("taskfleet", "0.1.0", "drain", "tasks_per_second", "tasks/s", (60_000.0, 61_000.0)),
    Figure("taskfleet", "0.1.0", "drain", "tasks", "tasks", (20_000.0, 20_000.0)),
    Figure("asynq", "0.26.0", "latency", "p99", "ms", (0.5,)),
]


def test_the_json_has_the_machine_and_one_record_per_figure() -> None:
    document = json.loads(json.dumps(report.as_json(report.machine("Redis 7.0.15"), FIGURES)))
    assert set(document) == {"machine", "results"}
    assert document["machine"]["redis"] == "Redis 7.0.15"
    assert [record["peer"] for record in document["results"]] == ["taskfleet", "taskfleet", "asynq"]


def test_the_table_has_one_line_per_figure_with_its_number_of_tasks_and_columns_of_one_width() -> None:
    lines = report.table(FIGURES).splitlines()
    assert len(lines) == 2 + len(FIGURES) - 1  # `tasks` is a column
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "drain", "tasks_per_second", "taskfleet", "0.1.0", "20,000", "60,500", "60,000", "61,000", "tasks/s",
    ]  # fmt: skip
    assert [cell.strip() for cell in lines[3].strip("|").split("|")][4] == ""


def test_the_targets_say_what_was_measured_and_whether_that_will_do() -> None:
    met = Target("drain", "≥ 4 times bullmq", "5 times", met=True)
    missed = Target("latency", "≤ 1 ms", "1.2 ms", met=False)
    lines = report.target_table([met, missed]).splitlines()
    assert [line.strip("|").split("|")[-1].strip() for line in lines[2:]] == ["yes", "NO"]


def test_each_interpreter_that_was_measured_has_a_line() -> None:
    figures = [
        Figure("taskfleet", "0.1.0", "pythons", pythons.metric(version, column), "tasks/s", (1000.0 + n,))
        for n, version in enumerate(("3.11", "3.14"))
        for column in pythons.COLUMNS
    ]
    assert {figure.metric for figure in figures} <= set(UNITS)
    lines = report.python_table(figures).splitlines()
    assert [line.strip("|").split("|")[0].strip() for line in lines[2:]] == ["CPython 3.11", "CPython 3.14"]
    assert "1,001" in lines[3]
    assert report.python_table(FIGURES) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [(69_206.4, "69,206"), (100.0, "100"), (16.04, "16"), (1.0149, "1.01"), (0.00931, "0.00931"), (-181.2, "-181")],
)
def test_a_number_shows_the_figures_that_count(value: float, text: str) -> None:
    assert number(value) == text
