"""The kernel call that ends a child with its parent stands once, and it works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
_FOLDERS = ("worker", "operator", "tests", "bench", "e2e", "examples")
_PARENT = """
import subprocess, sys, time
from taskfleet.child_process import ends_with_this_process
child = subprocess.Popen(["cat"], pass_fds=[int(sys.argv[1])], preexec_fn=ends_with_this_process())
print(child.pid, flush=True)
time.sleep(600)
"""


def test_only_one_module_calls_prctl_for_the_death_of_a_parent() -> None:
    modules = [
        path.relative_to(_REPOSITORY)
        for folder in _FOLDERS
        for path in (_REPOSITORY / folder).rglob("*.py")
        if "PR_SET_PDEATHSIG" in path.read_text(encoding="utf-8") and path != Path(__file__)
    ]
    assert modules == [Path("worker/taskfleet/child_process.py")]


@pytest.mark.skipif(sys.platform != "linux", reason="only the kernel of Linux ends a child with its parent")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    reader, writer = os.pipe()  # the parent and its child hold `writer`: it closes when both have ended
    silence, never_written = os.pipe()  # the standard input of the child, which blocks on it
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(writer)], pass_fds=[writer], stdin=silence, stdout=subprocess.PIPE
    )
    os.close(writer)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline().strip().isdigit()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait(60)
    assert os.read(reader, 1) == b""
    for descriptor in (reader, silence, never_written):
        os.close(descriptor)
