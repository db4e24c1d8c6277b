from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bench import environments
from bench.__main__ import _parser
from bench.environments import built
from bench.errors import PeerUnavailable
from bench.peers import PEERS
from bench.scenarios import SCENARIOS


def test_without_names_every_peer_and_scenario_is_measured() -> None:
    options = _parser().parse_args([])
    assert options.peers == list(PEERS)
    assert options.scenario == list(SCENARIOS)


def test_names_are_a_list_without_repeats() -> None:
    options = _parser().parse_args(["--peers", "asynq, taskfleet,asynq", "--scenario", "drain"])
    assert options.peers == ["asynq", "taskfleet"]


@pytest.mark.parametrize("arguments", [["--peers", "celery9"], ["--scenario", ""], ["--tasks", "0"], ["--repeat", "x"]])
def test_a_bad_argument_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        _parser().parse_args(arguments)
    assert exit_.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_what_a_peer_lacks_is_a_scenario() -> None:
    for peer in PEERS.values():
        assert set(peer.lacks) <= set(SCENARIOS)


@pytest.mark.parametrize(("peer", "tool"), [("bullmq", "node"), ("asynq", "go")])
def test_a_missing_tool_is_one_line_that_names_it(peer: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(PeerUnavailable, match=rf"^{peer} needs '{tool}' on the path: [^\n]+$"):
        PEERS[peer].prepare()


def test_an_environment_is_built_once_and_again_for_other_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path / "cache"))
    lock = tmp_path / "lock"
    lock.write_text("one")
    builds: list[str] = []

    def build(folder: Path) -> None:
        builds.append((folder / "lock").read_text())

    first = built("peer", "1.0", [lock], build)
    assert built("peer", "1.0", [lock], build) == first
    lock.write_text("two")
    assert built("peer", "1.0", [lock], build) != first
    assert builds == ["one", "two"]


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        environments.run(["sh", "-c", "echo 'no such module' >&2; exit 3"], folder, "peer")

    with pytest.raises(PeerUnavailable, match="no such module"):
        built("peer", "1.0", [], build)
    assert list((tmp_path / "bench").iterdir()) == []
