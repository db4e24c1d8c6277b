"""The page about performance: tables and pictures from the figures of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench.errors import BenchError
from bench.figures import Figure
from bench.performance import __main__ as command
from bench.performance.bars import BARS, pictures
from bench.performance.tables import tables
from bench.report import as_json

MACHINE = {"cpu": "a processor", "cores": 2, "python": "3.11.7", "redis": "Redis 7.0.15", "date": "2026-11-27"}
FIGURES = [
    Figure("bullmq", "6.7.0", "drain", "tasks_per_second", "tasks/s", (20_000.0,)),
    Figure("taskfleet", "0.1.0", "drain", "tasks_per_second", "tasks/s", (90_000.0, 110_000.0, 100_000.0)),
    Figure("taskfleet", "0.1.0", "drain_rtt", "kept", "%", (91.0,)),
    Figure("taskfleet", "0.1.0", "holding", "claim_large", "ms", (7.5,)),
    Figure("taskfleet", "0.1.0", "holding", "purge", "ms", (9.5,)),
    Figure("taskfleet", "0.1.0", "latency", "p50", "ms", (0.9,)),
    Figure("bullmq", "6.7.0", "latency", "p50", "ms", (1.9,)),
]
PAGE = "# A page\n\n<!-- run: peers -->\nold\n<!-- end of run -->\n\nText.\n"
DOCS = Path(__file__).parents[3] / "docs"


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_each_queue_has_a_line_and_the_fastest_comes_first() -> None:
    rows = cells(tables(MACHINE, FIGURES)["peers"])
    assert [row[:2] for row in rows] == [["taskfleet 0.1.0", "100,000"], ["bullmq 6.7.0", "20,000"]]


def test_a_figure_that_only_some_have_is_a_dash_for_the_others() -> None:
    assert ["… of that without, %", "91", "-", "-"] in cells(tables(MACHINE, FIGURES)["some"])


def test_the_longest_call_comes_first() -> None:
    assert cells(tables(MACHINE, FIGURES)["holding"]) == [["purge", "9.5"], ["claim large", "7.5"]]


def test_a_table_without_figures_is_not_there() -> None:
    found = tables(MACHINE, FIGURES)
    assert {"features", "pythons"}.isdisjoint(found)
    assert "the median of up to 3 runs" in found["machine"]


def test_the_best_bar_is_at_the_top_and_the_longest_fills_the_picture() -> None:
    drawn = pictures(FIGURES)
    assert set(drawn) == {"drain.svg", "latency.svg"}
    for picture in drawn.values():
        assert picture.index(">taskfleet<") < picture.index(">bullmq<")
    assert 'class="ours" x="128" y="44" width="260.0"' in drawn["drain.svg"]
    assert 'class="other" x="128" y="66" width="52.0"' in drawn["drain.svg"]


def test_a_page_gets_the_tables_and_keeps_its_text(tmp_path: Path) -> None:
    page, run = tmp_path / "page.md", tmp_path / "out.json"
    page.write_text(PAGE, encoding="utf-8")
    run.write_text(json.dumps(as_json(MACHINE, FIGURES)), encoding="utf-8")
    assert command.main([str(page), str(run)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# A page\n\n<!-- run: peers -->\n\n|")
    assert text.endswith("|\n\n<!-- end of run -->\n\nText.\n")
    assert "old" not in text
    assert (tmp_path / "page" / "drain.svg").exists()
    assert command.main([str(page), str(tmp_path / "page" / "run.json")]) == 0
    assert page.read_text(encoding="utf-8") == text


def test_a_run_without_the_figures_of_a_table_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, run = tmp_path / "page.md", tmp_path / "out.json"
    page.write_text(PAGE.replace("peers", "features"), encoding="utf-8")
    run.write_text(json.dumps(as_json(MACHINE, FIGURES)), encoding="utf-8")
    assert command.main([str(page), str(run)]) == 1
    assert "no figures for 'features'" in capsys.readouterr().err
    assert "old" in page.read_text(encoding="utf-8")
    assert not (tmp_path / "page").exists()


def test_a_file_that_is_no_run_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    (tmp_path / "out.json").write_text("[1]", encoding="utf-8")
    assert command.main([str(page), str(tmp_path / "out.json")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert page.read_text(encoding="utf-8") == PAGE


def test_a_place_that_no_table_has_is_an_error() -> None:
    with pytest.raises(BenchError, match="'nothing'"):
        command.filled("<!-- run: nothing -->\n<!-- end of run -->", {})


def test_the_page_in_the_documentation_is_that_of_its_run() -> None:
    run = json.loads((DOCS / "performance" / "run.json").read_text(encoding="utf-8"))
    figures = [Figure.of_json(record) for record in run["results"]]
    page = (DOCS / "performance.md").read_text(encoding="utf-8")
    assert "<!-- run: targets -->" in page
    assert command.filled(page, tables(run["machine"], figures)) == page
    drawn = pictures(figures)
    assert set(drawn) == {f"{bars.name}.svg" for bars in BARS}
    for name, picture in drawn.items():
        assert (DOCS / "performance" / name).read_text(encoding="utf-8") == picture
        assert f"(performance/{name})" in page
