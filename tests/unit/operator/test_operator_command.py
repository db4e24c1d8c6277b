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


@pytest.mark.parametrize("text", [None, "", ": : [", "just text", "[1, 2]", "clusters: 7\ncurrent-context: x\n"])
def test_a_kubeconfig_that_is_none_is_named_in_one_line(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "taskfleet", "operator"],
        env=os.environ | {"HOME": str(tmp_path), "KUBECONFIG": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"no Kubernetes to talk to: {path}: " in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
