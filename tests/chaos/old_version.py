"""The engine as it was at an earlier commit, for workers that share one Redis with those of today."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

COMMIT = "d5c1da4"
_REPOSITORY = Path(__file__).parents[2]


class NoOldVersion(Exception):
    """The history is not here; the text says why."""


def folder() -> Path:
    """A folder to put on `PYTHONPATH`, made from the history once; `NoOldVersion` when that is not there."""
    cache = Path(os.environ.get("TASKFLEET_CACHE") or Path.home() / ".cache" / "taskfleet")
    place = cache / "chaos" / COMMIT
    if not (place / "worker" / "taskfleet").is_dir():
        try:
            archive = subprocess.run(
                ["git", "archive", "--format=tar", COMMIT, "worker"], cwd=_REPOSITORY, capture_output=True, check=False
            )
        except OSError as error:
            raise NoOldVersion(f"git cannot be run: {error.strerror}") from None
        if archive.returncode:
            raise NoOldVersion(archive.stderr.decode(errors="replace").strip().splitlines()[-1])
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_name(f"{COMMIT}.{os.getpid()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(fresh, filter="data")
        with contextlib.suppress(OSError):  # another run was faster: its copy is the same
            fresh.rename(place)
    return place / "worker"
