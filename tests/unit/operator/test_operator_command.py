"""`taskfleet operator` with a missing requirement: a one-line error at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no Kubernetes to talk to"),
        (("--log-level", "loud"), "'loud' is none of DEBUG, INFO, WARNING, ERROR"),
        (("--watch-selector", "shard in a"), "--watch-selector: 'shard in a' is no label selector"),
        (("--webhook-port", "9443"), "--webhook-port and --webhook-cert-dir belong together"),
        (("--probe-port", "9443", "--webhook-port", "9443", "--webhook-cert-dir", "/tmp"), "choose another port"),
    ],
)
def test_a_missing_requirement_is_one_line(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KUBE")}
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "operator", *arguments],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
