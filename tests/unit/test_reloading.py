"""What is told about a change whose import does not end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from taskfleet.process import reloading

PENDING = "the import of this change has not ended yet: the workers keep the code before it until then"


def test_an_import_that_does_not_end_is_told_once_for_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "_SLOW_SECONDS", 0.0)
    # The reloader sets it for the processes that it starts; the test takes it back.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    told: list[str] = []
    code = tmp_path / "app.py"
    with reloading.Reloader(tmp_path, [sys.executable, "-c", "import time; time.sleep(3600)"], told.append) as reloader:
        deadline = time.monotonic() + 60
        next_write = 0.0
        while PENDING not in told:
            assert time.monotonic() < deadline, told
            if time.monotonic() >= next_write:  # again and again, for the folder may not be watched yet
                code.write_text(f"# {time.monotonic()}\n", encoding="utf-8")
                next_write = time.monotonic() + 2
            assert not reloader.due()
        for _ in range(100):
            assert not reloader.due()
    assert told.count(PENDING) <= told.count("app.py changed")
