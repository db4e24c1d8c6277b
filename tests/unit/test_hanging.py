"""A test whose thread never ends fails the run and names the place, instead of holding it for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = """
import pytest
from tests.support import hanging

@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    with hanging.limited(item.config, seconds=1):
        yield
"""
HANGS = """
import asyncio, threading
import pytest

def endless():
    threading.Event().wait()

@pytest.mark.timeout(1)
async def test_hangs():
    await asyncio.to_thread(endless)
"""


def test_a_thread_that_waits_for_ever_does_not_hold_the_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(HANGS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "in endless" in done.stderr


def test_a_teardown_that_ends_is_not_disturbed(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text("import time\ndef test_first(): ...\ndef test_later(): time.sleep(1.5)\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), "--rootdir", str(tmp_path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
