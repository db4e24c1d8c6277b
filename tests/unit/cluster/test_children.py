"""Servers end with the test run that has started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.ports import free_port

_PARENT = """
import sys, time
from pathlib import Path
from e2e.cluster.children import start_child
child = start_child(["sleep", "600"], log=Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tell a child that its parent is gone")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(60)
    deadline = time.monotonic() + 60
    while _lives(child):
        assert time.monotonic() < deadline, "the child outlives its parent"
        time.sleep(0.02)


def test_free_ports_are_different() -> None:
    assert len({free_port() for _ in range(20)}) == 20


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it was gone before the file was opened, or before it was read
        return False
