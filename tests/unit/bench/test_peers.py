from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from bench import environments
from bench.environments import built
from bench.errors import PeerUnavailable
from bench.peer import PythonPeer
from bench.peers import PEERS
from bench.peers.rust_task_queue import with_sources
from bench.scenarios import SCENARIOS

FOLDER = Path(environments.__file__).parent / "peers"
PYTHON_PEERS = [peer for peer in PEERS.values() if isinstance(peer, PythonPeer)]


def test_what_a_peer_lacks_is_a_scenario() -> None:
    for peer in PEERS.values():
        assert set(peer.lacks) <= set(SCENARIOS)


def test_every_peer_takes_part_in_what_all_can_do() -> None:
    for peer in PEERS.values():
        assert not set(peer.lacks) & {"drain", "commands", "memory", "enqueue", "latency"}


@pytest.mark.parametrize("peer", PYTHON_PEERS, ids=lambda peer: peer.name)
def test_a_python_peer_is_pinned_and_hashed_and_names_no_index(peer: PythonPeer) -> None:
    text = (FOLDER / peer.name / "requirements.txt").read_text()
    requirements = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert f"{peer.name}=={peer.version}" in {line.split(" ")[0] for line in requirements}
    assert all("==" in line for line in requirements)
    assert text.count("--hash=sha256:") >= len(requirements)
    assert "://" not in text
    assert "--index" not in text


def test_the_rust_peer_is_pinned_by_checksum_and_names_no_registry() -> None:
    pins = (FOLDER / "rust_task_queue" / "Cargo.pins").read_text()
    packages = pins.count("[[package]]")
    assert packages > 100
    assert pins.count("checksum = ") == packages - 1  # all but our own
    assert "://" not in pins
    assert re.search(r'name = "rust-task-queue"\nversion = "0.1.5"\n', pins)


def test_a_lock_file_gets_the_sources_of_the_cargo_that_builds() -> None:
    pins = '[[package]]\nname = "a"\nversion = "1.0.0"\nchecksum = "00"\n\n[[package]]\nname = "ours"\n'
    lock = 'version = 4\n\n[[package]]\nname = "a"\nversion = "1.0.9"\nsource = "registry+somewhere"\n'
    assert with_sources(pins, lock) == (
        '[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "registry+somewhere"\nchecksum = "00"\n\n'
        '[[package]]\nname = "ours"\n'
    )


@pytest.mark.parametrize(("peer", "tool"), [("bullmq", "node"), ("asynq", "go"), ("rust-task-queue", "cargo")])
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


def test_an_environment_of_another_python_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path))
    monkeypatch.setattr(environments, "run", lambda command, folder, needed_by: None)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("")
    ours = environments.python_environment("peer", "1.0", requirements)
    assert environments.python_environment("peer", "1.0", requirements, Path(sys.executable)) == ours
    monkeypatch.setattr(sys, "version_info", type("Version", (), {"major": 3, "minor": 99}))
    assert environments.python_environment("peer", "1.0", requirements) != ours


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        environments.run(["sh", "-c", "echo 'no such module' >&2; exit 3"], folder, "peer")

    with pytest.raises(PeerUnavailable, match="no such module"):
        built("peer", "1.0", [], build)
    assert list((tmp_path / "bench").iterdir()) == []
