"""The crash suite in its short form, and that it can fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taskfleet.child_process import ends_with_this_process
from tests.chaos import old_version
from tests.chaos.__main__ import main
from tests.chaos.old_version import FIRST, PREVIOUS
from tests.support import requirements


def test_faults_lose_nothing_and_explain_every_duplicate(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = tmp_path / "result.json"
    code = main(["--tasks", "5000", "--faults", "20", "--seconds", "16", "--seed", "20", "--json", str(file)])
    result = json.loads(file.read_text())
    wrong = {name: result[name] for name in ("lost", "defects", "orphans", "strangers")}
    assert not any(wrong.values()), json.dumps(wrong, indent=1)
    assert code == 0
    assert result["tasks"] > 5000
    assert sum(result["faults"].values()) == 20
    assert result["accepted"] > 4000
    if result["not_tested"]:
        requirements.cannot_run(request.config, "old and new workers on one Redis", result["not_tested"])
    assert all(result["executions_by_version"][version.name] > 0 for version in (FIRST, PREVIOUS))


def test_a_lost_task_a_double_run_and_an_orphan_key_are_found(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    code = main(
        [
            *("--tasks", "1200", "--faults", "0", "--seconds", "4", "--seed", "5", "--workers", "1"),
            *("--producers", "1", "--new-only", "--sabotage", "lose", "double", "orphan", "--json", str(file)),
        ]
    )
    result = json.loads(file.read_text())
    assert code == 1
    assert len(result["lost"]) == 1
    assert "no outcome is recorded" in result["lost"][0]
    assert any("ran twice" in defect for defect in result["defects"]), result["defects"]
    assert result["orphans"] == ["chaos:{default}:stray: neither an owner nor a time to live"]


def test_without_the_history_the_old_version_is_missing_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLEET_CACHE", str(tmp_path))
    with pytest.raises(old_version.NoOldVersionError, match="0000000"):
        old_version.folder("0" * 40)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends the children of a killed parent")
def test_a_suite_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    suite = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.chaos", "--tasks", "1000", "--faults", "0", "--seconds", "30"),
            *("--workers", "1", "--producers", "1", "--new-only", "--keep", str(folder)),
        ],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        preexec_fn=ends_with_this_process(),
    )
    _until(lambda: len(_pids(folder)) >= 3, "proxy, worker and producer write their ledgers")
    children = _pids(folder) - {suite.pid}
    assert all(_runs(pid) for pid in children)
    suite.send_signal(signal.SIGKILL)
    suite.wait(60)
    _until(lambda: not any(_runs(pid) for pid in children), "they are gone")


def _pids(folder: Path) -> set[int]:
    return {int(path.stem.rpartition(".")[2]) for path in folder.glob("*.ledger") if not path.stem.startswith("faults")}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second when it goes between open and read
        return False


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.02)
