"""Without CAP_SYS_RESOURCE the wrapper reduces the requested limits; with it, runc gets the request unchanged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.engine import RUNC_LIMITED

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq, which the engine's set-up installs")

_LACKING, _HAVING = "000001fffeffffff", "000001ffffffffff"


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run the wrapper with the given capability bounding set and a runc that prints its arguments."""

    def run(bounding: str, *arguments: str) -> str:
        (tmp_path / "status").write_text(f"CapBnd:\t{bounding}\n")
        stand_in = tmp_path / "runc"
        stand_in.write_text('#!/bin/sh\necho "$@"\n')
        stand_in.chmod(0o755)
        script = RUNC_LIMITED.read_text().replace("/proc/self/status", str(tmp_path / "status"))
        script = re.sub(r"(?m)^PATH=", f"PATH={tmp_path}:{os.environ['PATH']}:", script)
        return subprocess.run(
            ["sh", "-c", script, "runc", *arguments], check=True, capture_output=True, text=True
        ).stdout

    return run


def _process() -> dict[str, Any]:
    return {
        "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"], "permitted": ["CAP_SYS_RESOURCE"]},
        "oomScoreAdj": -998,
    }


def test_a_container_asks_for_less(run: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"process": _process(), "root": {"path": "rootfs"}}))
    printed = run(_LACKING, "--root", "/r", "create", "--bundle", str(tmp_path), "name")
    assert printed == f"--root /r create --bundle {tmp_path} name\n"
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "process": {"capabilities": {"bounding": ["CAP_KILL"], "permitted": []}, "oomScoreAdj": 0},
        "root": {"path": "rootfs"},
    }


def test_an_exec_asks_for_less(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "process.json"
    file.write_text(json.dumps(_process()))
    run(_LACKING, "exec", "--process", str(file), "name")
    assert json.loads(file.read_text())["capabilities"]["bounding"] == ["CAP_KILL"]


def test_with_the_capability_nothing_changes(run: Any, tmp_path: Path) -> None:
    config = json.dumps({"process": _process()})
    (tmp_path / "config.json").write_text(config)
    run(_HAVING, "create", "--bundle", str(tmp_path), "name")
    assert (tmp_path / "config.json").read_text() == config
