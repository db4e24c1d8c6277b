"""Introductions: by which a reader learns who made an id, and who holds a lease.

A process writes its name once, under the prefix of its ids, and a worker under its incarnation, with a time to live.
Nothing is written for a task.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from taskfleet import foreign

KEPT_SECONDS: Final = 3 * 86_400.0  # after the process has ended
AGAIN_SECONDS: Final = 3600.0  # how often a process that lives writes it again
RUNS_FIELD: Final = "runs"
_MOST_RUNS = 64


class Run(NamedTuple):
    """A run in a worker, and when it began (Unix ms by the worker's clock)."""

    id: str
    started_ms: int


def runs_text(runs: Iterable[Run]) -> str:
    """The oldest runs, as a heartbeat has them."""
    oldest = sorted(runs, key=lambda run: run.started_ms)[:_MOST_RUNS]
    return " ".join(f"{run.id} {run.started_ms}" for run in oldest)


def read_runs(value: bytes | str | None) -> list[Run]:
    """The runs in a heartbeat; what another program has written is skipped."""
    words = foreign.text(value or "").split(" ", 2 * _MOST_RUNS)[: 2 * _MOST_RUNS]
    pairs = zip(words[::2], words[1::2], strict=False)
    return [Run(task_id, int(ms)) for task_id, ms in pairs if ms.isascii() and ms.isdigit() and len(ms) < 16]
