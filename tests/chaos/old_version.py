"""Earlier versions of the library, from the git history, for workers that share one Redis with those of today."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class OldVersion:
    """A commit whose worker takes part in a run. `name` names that worker, its ledgers and its log."""

    name: str
    commit: str
    queues: tuple[str, ...] = ()  # the queues that its worker serves; none named: all of them
    hangs: bool = False  # it has known defects: its drain may never end, and it may lose track of a task


# The first version that the suite ran against. It knows neither keys nor workflows: its worker serves one queue, whose
# tasks it understands.
FIRST = OldVersion("first", "d5c1da4", queues=("mixed",), hangs=True)
# The version before protocol/, redis/ and memory/ had their names. It knows all kinds of tasks.
PREVIOUS = OldVersion("previous", "3aa8b52")


class NoOldVersionError(Exception):
    """The commit cannot be read from the git history; the message says why."""


def folder(commit: str) -> Path:
    """A folder for `PYTHONPATH` with the library of a commit, extracted once. Errors: `NoOldVersionError`."""
    cache = Path(os.environ.get("TASKFLEET_CACHE") or Path.home() / ".cache" / "taskfleet")
    target = cache / "chaos" / commit
    if not (target / "worker" / "taskfleet").is_dir():
        try:
            archive = subprocess.run(
                ["git", "archive", "--format=tar", commit, "worker"], cwd=_REPOSITORY, capture_output=True, check=False
            )
        except OSError as error:
            raise NoOldVersionError(f"git cannot be run: {error.strerror}") from None
        if archive.returncode:
            raise NoOldVersionError(archive.stderr.decode(errors="replace").strip().splitlines()[-1])
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f"{commit}.{os.getpid()}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(fresh, filter="data")
        with contextlib.suppress(OSError):  # another run extracted the same commit first
            fresh.rename(target)
    return target / "worker"
