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
from bench.report import as_json, read_run

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
CHECKOUT = Path(__file__).parents[3]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_each_queue_has_a_line_and_the_fastest_comes_first() -> None:
    rows = cells(tables(MACHINE, FIGURES)["peers"])
    assert [row[:2] for row in rows] == [["taskfleet 0.1.0", "100,000"], ["bullmq 6.7.0", "20,000"]]


def test_a_figure_that_only_some_have_is_a_dash_for_the_others() -> None:
    assert ["… of that without, %", "91", "-", "-"] in cells(tables(MACHINE, FIGURES)["some"])


def test_the_longest_call_comes_first() -> None:
    assert cells(tables(MACHINE, FIGURES)["holding"]) == [
        ["a queue with very many tasks is purged", "9.5"],
        ["256 tasks of 1 MB are claimed and end", "7.5"],
    ]


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


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the pages, and `out.json` of a run."""
    for name in command.PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(PAGE, encoding="utf-8")
    (tmp_path / "out.json").write_text(json.dumps(as_json(MACHINE, FIGURES)), encoding="utf-8")
    return tmp_path


def write(checkout: Path, run: str = "out.json") -> int:
    return command.main([str(checkout / run), "--checkout", str(checkout)])


def pages(checkout: Path) -> list[str]:
    return [(checkout / name).read_text(encoding="utf-8") for name in command.PAGES]


def test_the_pages_get_the_tables_and_keep_their_text(checkout: Path) -> None:
    assert write(checkout) == 0
    for text in (written := pages(checkout)):
        assert text.startswith("# A page\n\n<!-- run: peers -->\n\n|")
        assert text.endswith("|\n\n<!-- end of run -->\n\nText.\n")
        assert "old" not in text
    assert (checkout / command.FOLDER / "drain.svg").exists()
    assert write(checkout, f"{command.FOLDER}/run.json") == 0
    assert pages(checkout) == written


def test_a_run_without_the_figures_of_a_table_changes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "README.md").write_text(PAGE.replace("peers", "features"), encoding="utf-8")
    before = pages(checkout)
    assert write(checkout) == 1
    assert "no figures for 'features'" in capsys.readouterr().err
    assert pages(checkout) == before
    assert not (checkout / command.FOLDER).exists()


def test_a_file_that_is_no_run_is_an_error_of_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("[1]", "no JSON", '{"machine": {}}', '{"machine": {}, "results": [3]}'):
        (checkout / "out.json").write_text(text, encoding="utf-8")
        assert write(checkout) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert pages(checkout) == [PAGE, PAGE]


def test_a_place_that_no_table_has_is_an_error() -> None:
    with pytest.raises(BenchError, match="'nothing'"):
        command.filled("<!-- run: nothing -->\n<!-- end of run -->", {})


def test_the_pages_here_are_those_of_their_run() -> None:
    machine, figures = read_run(CHECKOUT / command.FOLDER / "run.json")
    parts = tables(machine, figures)
    for text in (written := pages(CHECKOUT)):
        assert command.filled(text, parts) == text
    assert "<!-- run: targets -->" in written[0]
    assert "<!-- run: short -->" in written[1]
    drawn = pictures(figures)
    assert set(drawn) == {f"{bars.name}.svg" for bars in BARS}
    for name, picture in drawn.items():
        assert (CHECKOUT / command.FOLDER / name).read_text(encoding="utf-8") == picture
        assert f"(performance/{name})" in written[0]
