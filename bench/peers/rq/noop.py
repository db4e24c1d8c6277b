"""The task of the RQ peer: RQ finds it by its module's name."""

from __future__ import annotations

from bench.protocol import echo_task, tally


def noop(at: float) -> None:
    tally.note(at)


def echo(at: float) -> float:
    return echo_task(at)
