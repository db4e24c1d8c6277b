from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import __main__ as command
from bench.__main__ import QUICK, QUICK_ONLY, _load, _parser
from bench.measuring import Contender
from bench.peers import PEERS
from bench.scenarios import SCENARIOS, Load
from bench.server import ServerProgram

from tests.unit.bench.peers import FakePeer


def test_without_names_every_peer_and_scenario_is_measured() -> None:
    options = _parser().parse_args([])
    assert options.peers == list(PEERS)
    assert options.scenario is None


def test_names_are_a_list_without_repeats() -> None:
    options = _parser().parse_args(["--peers", "asynq, taskfleet,asynq", "--scenario", "drain,latency"])
    assert options.peers == ["asynq", "taskfleet"]
    assert options.scenario == ["drain", "latency"]


@pytest.mark.parametrize("arguments", [["--peers", "celery9"], ["--scenario", ""], ["--tasks", "0"], ["--repeat", "x"]])
def test_a_bad_argument_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        _parser().parse_args(arguments)
    assert exit_.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_quick_form_asks_for_less_and_a_number_that_is_given_stands() -> None:
    assert _load(_parser().parse_args(["--quick"])) == QUICK
    assert _load(_parser().parse_args([])) == Load()
    assert _load(_parser().parse_args(["--quick", "--tasks", "7", "--latency-tasks", "9"])).tasks == 7


def test_what_the_quick_form_narrows_are_scenarios_and_peers() -> None:
    assert set(QUICK_ONLY) <= set(SCENARIOS)
    assert {name for names in QUICK_ONLY.values() for name in names} <= set(PEERS)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The recorded runs, as (peer, run)."""
    runs: list[tuple[str, str]] = []

    def play(run: object, contender: Contender, load: Load) -> dict[str, float]:
        runs.append((contender.name, getattr(run, "__name__", "")))
        rate = 90_000.0 if contender.name == "taskfleet" else 10_000.0
        return {"tasks_per_second": rate, "round_trips_per_task": 0.5, "tasks": float(load.tasks)}

    monkeypatch.setattr(ServerProgram, "find", lambda: ServerProgram("redis-server", "Redis 7.0.15"))
    monkeypatch.setattr(command, "on_a_fresh_server", lambda server: play)
    monkeypatch.setattr(command, "prepare", lambda peers: [Contender(FakePeer(p.name), None) for p in peers])  # type: ignore[arg-type]
    return runs


def test_one_run_serves_all_scenarios_that_look_at_it(
    measured: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "deep" / "out.json"
    arguments = ["--peers", "taskfleet,bullmq", "--scenario", "drain,commands", "--repeat", "2", "--json", str(file)]
    assert command.main(arguments) == 0
    # The second repeat has the opposite order.
    assert measured == [("taskfleet", "drain"), ("bullmq", "drain"), ("bullmq", "drain"), ("taskfleet", "drain")]
    results = json.loads(file.read_text())["results"]
    assert {(r["scenario"], r["metric"]) for r in results} == {
        ("drain", "tasks_per_second"), ("drain", "tasks"), ("commands", "round_trips_per_task"), ("commands", "tasks"),
    }  # fmt: skip
    assert all(
        set(r) == {"peer", "version", "scenario", "metric", "unit", "median", "min", "max", "runs"} for r in results
    )
    assert all(len(r["runs"]) == 2 for r in results)
    table, targets = capsys.readouterr().out.split("\n\n")[1:]
    assert "| drain    | tasks_per_second     | taskfleet |" in table
    assert "≥ 4 times bullmq" in targets
    assert "9 times" in targets


def test_a_target_is_not_judged_without_its_figures(
    measured: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--peers", "taskfleet", "--scenario", "enqueue", "--repeat", "1"]) == 0
    assert "target" not in capsys.readouterr().out


def test_the_quick_form_leaves_the_long_scenarios_of_slow_peers_out(measured: list[tuple[str, str]]) -> None:
    assert command.main(["--peers", "taskfleet,celery", "--quick"]) == 0
    assert ("celery", "latency") in measured
    assert ("celery", "kill9") not in measured
    assert ("taskfleet", "kill9") in measured


def test_a_scenario_that_is_named_is_run_in_the_quick_form_too(measured: list[tuple[str, str]]) -> None:
    assert command.main(["--peers", "celery", "--quick", "--scenario", "processes"]) == 0
    assert measured == [("celery", "processes")]
