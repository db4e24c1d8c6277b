from __future__ import annotations

import pytest
from bench.errors import BenchError, PeerUnavailable
from bench.measuring import Contender, Measurement, prepare
from bench.peer import Program
from bench.scenarios import Load, Run

from tests.unit.bench.peers import FakePeer

PROGRAM = Program(("true",))
FAST, SLOW = Contender(FakePeer("fast"), PROGRAM), Contender(FakePeer("slow", most=500), PROGRAM)


def test_a_slow_peer_gets_fewer_tasks() -> None:
    given: dict[str, int] = {}

    def play(run: Run, contender: Contender, load: Load) -> dict[str, float]:
        given[contender.name] = load.tasks
        return {"tasks_per_second": 1.0, "tasks": float(load.tasks)}

    measurement = Measurement([FAST, SLOW], ["enqueue"], 1, Load(tasks=20_000))
    measurement.run(play)
    assert given == {"fast": 20_000, "slow": 500}
    tasks = {figure.peer: figure.median for figure in measurement.figures() if figure.metric == "tasks"}
    assert tasks == {"fast": 20_000.0, "slow": 500.0}


def test_what_fails_once_is_left_out_and_named_and_the_others_go_on() -> None:
    rounds = {"fast": 0, "slow": 0}

    def play(run: Run, contender: Contender, load: Load) -> dict[str, float]:
        rounds[contender.name] += 1
        if contender.name == "slow" and rounds["slow"] == 2:
            raise BenchError("lost a task")
        return {"tasks_per_second": float(rounds[contender.name])}

    measurement = Measurement([FAST, SLOW], ["enqueue"], 3, Load())
    measurement.run(play)
    assert measurement.failed == {("enqueue", "slow")}
    assert rounds == {"fast": 3, "slow": 2}
    assert [(figure.peer, figure.runs) for figure in measurement.figures()] == [("fast", (1.0, 2.0, 3.0))]


def test_a_scenario_that_a_peer_lacks_is_not_run_and_its_reason_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    contender = Contender(FakePeer("fast", lacks={"latency": "it has no clock"}), PROGRAM)
    measurement = Measurement([contender], ["latency"], 2, Load())
    measurement.run(lambda run, contender, load: {"p50": 1.0})
    assert measurement.figures() == []
    assert not measurement.failed
    assert capsys.readouterr().err.count("it has no clock") == 1


class Broken(FakePeer):
    def prepare(self) -> Program:
        raise PeerUnavailable("broken needs 'tool' on the path")


class Built(FakePeer):
    def prepare(self) -> Program:
        return PROGRAM


def test_a_peer_that_cannot_be_built_is_skipped_and_the_others_are_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [contender.name for contender in prepare([Broken("broken"), Built("built")])] == ["built"]
    assert "SKIPPED broken: broken needs 'tool' on the path" in capsys.readouterr().err


def test_without_any_peer_there_is_no_bench() -> None:
    with pytest.raises(BenchError, match="none of the peers"):
        prepare([Broken("broken")])
