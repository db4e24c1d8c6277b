"""The crash suite as a scenario: how long the slowest script call of a run has held Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.errors import BenchError
from bench.peer import CHECKOUT
from bench.scenarios.stage import Stage

UNITS = {"slowest_call": "ms"}

_FAULTS_PER_SECOND = 0.75  # as in `make chaos`
_PATIENCE_SECONDS = 300.0


def chaos(stage: Stage) -> dict[str, float]:
    """`python -m tests.chaos`, with servers and workers of its own; by SLOWLOG, which a restart of Redis empties.

    A run that loses a task, or ends one twice, has no figures.
    """
    load = stage.load
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        report = Path(folder) / "report.json"
        done = subprocess.run(
            [
                sys.executable, "-m", "tests.chaos", "--new-only", "--json", str(report),
                "--tasks", str(load.chaos_tasks), "--seconds", str(load.chaos_seconds),
                "--faults", str(round(load.chaos_seconds * _FAULTS_PER_SECOND)),
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
            timeout=10 * load.chaos_seconds + _PATIENCE_SECONDS,
        )  # fmt: skip
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines() or ["it said nothing"]
            raise BenchError(f"the chaos run failed: {lines[-1]}")
        found = json.loads(report.read_text(encoding="utf-8"))
    return {"slowest_call": float(found["slowest_call_ms"]), "tasks": float(found["tasks"])}
