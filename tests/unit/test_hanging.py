"""A test whose thread never ends fails the run and names the place, instead of holding it for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import pytest
from tests.support import hanging

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    with hanging.limited(item.config, seconds={seconds}):
        yield
"""
# The test fails once its thread waits. A time limit might end it before there is a thread.
HANGS = """
import asyncio, threading

started = threading.Event()

def endless():
    started.set()
    threading.Event().wait()

async def test_hangs():
    waiting = asyncio.create_task(asyncio.to_thread(endless))
    while not started.is_set():
        await asyncio.sleep(0.01)
    assert waiting.done()
"""
# As long as the limit of the first teardown holds, the kernel has a thread more, which would end the run here.
GOES_ON = """
import os, time

def threads():
    return len(os.listdir("/proc/self/task"))

before = []

def test_first():
    before.append(threads())

def test_later():
    while threads() > before[0]:
        time.sleep(0.01)
"""


def test_a_thread_that_waits_for_ever_does_not_hold_the_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(seconds=1))
    (tmp_path / "test_it.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in endless" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the threads of a process in /proc")
@pytest.mark.parametrize("options", [[], ["-p", "no:faulthandler"]])
def test_a_teardown_that_ends_is_not_disturbed(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.format(seconds=30))
    (tmp_path / "test_it.py").write_text(GOES_ON)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(tmp_path), "--rootdir", str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
