"""The tasks of a worker that is killed."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.scenarios.stage import START_SECONDS, Stage, pause

_MOST_TASKS = 10_000
_POLL_SECONDS = 0.05
_SETTLE_SECONDS = 3.0  # after the last task has ended: a duplicate would have run by then


@dataclass(frozen=True, slots=True)
class Crash:
    """The figures in the trace of a run with a killed worker."""

    held: int
    lost: int
    duplicates: int  # tasks that were begun twice
    strays: int  # of those, such as the dead worker did not hold
    recovered_us: float  # when the last of the held had been begun again


def kill9(stage: Stage) -> dict[str, float]:
    """SIGKILL for the only worker while it is full; at that moment a second one starts consuming.

    Tasks are claimed in the order in which they were sent. So when no worker consumes, and `ready` tasks wait, those
    that the dead worker had claimed are the first of all. Those of them that the second worker runs are the ones that
    the dead worker held. Their number must be that of the leases in Redis.
    """
    folder = Path(stage.stack.enter_context(tempfile.TemporaryDirectory(prefix="taskfleet-bench-")))
    trace = folder / "trace"
    trace.touch()
    producer = stage.child("producer")
    first, second = (stage.child("worker", BENCH_TRACE=str(trace)) for _ in range(2))
    stage.warm(producer, first)
    stage.warm(producer, second)
    tasks = min(stage.load.tasks, _MOST_TASKS)
    producer.ask("enqueue_bulk", stage.load.timeout, tasks=tasks, task="traced", first=0, step=1)
    stage.begin_work(first, tasks)
    _wait(lambda: _count(trace, b"e ") > tasks // 5, START_SECONDS, f"{stage.label} does not work")
    first.kill()
    killed_us = time.monotonic_ns() / 1e3
    counts = producer.ask("counts", stage.load.timeout)
    second.send("work", tasks=tasks, slots=stage.load.slots)
    second.expect("consuming", START_SECONDS)
    _wait(lambda: _ended(trace) >= tasks, stage.load.timeout, f"{stage.label}: tasks of the killed worker are missing")
    pause(_SETTLE_SECONDS)
    crash = read_trace(trace.read_text(encoding="ascii"), tasks, claimed=tasks - counts["ready"], dead=first.pid)
    if crash.held != counts["in_flight"]:
        raise BenchError(f"{stage.label} ran {crash.held} tasks again, and {counts['in_flight']} were held")
    return {
        "recovery": (crash.recovered_us - killed_us) / 1e6,
        "lease": float(counts["lease_seconds"]),
        "held": float(crash.held),
        "lost": float(crash.lost),
        "duplicates": float(crash.duplicates),
        "strays": float(crash.strays),
        "tasks": float(tasks),
    }


def read_trace(text: str, tasks: int, *, claimed: int, dead: int) -> Crash:
    """Read lines of `b|e INDEX PID µs`. `claimed`: so many, the first, the worker `dead` had had."""
    begun: dict[int, list[tuple[int, float]]] = defaultdict(list)
    ended: set[int] = set()
    for line in text.splitlines():
        what, index, pid, moment = line.split()
        if what == "b":
            begun[int(index)].append((int(pid), float(moment)))
        else:
            ended.add(int(index))
    again = {i: max(at for pid, at in begun[i] if pid != dead) for i in range(claimed) if _others(begun[i], dead)}
    twice = {i for i, beginnings in begun.items() if len(beginnings) > 1}
    return Crash(
        held=len(again),
        lost=tasks - len(ended),
        duplicates=len(twice),
        strays=len(twice - set(again)),
        recovered_us=max(again.values(), default=0.0),
    )


def _others(beginnings: list[tuple[int, float]], dead: int) -> bool:
    return any(pid != dead for pid, _ in beginnings)


def _count(trace: Path, start: bytes) -> int:
    return sum(line.startswith(start) for line in trace.read_bytes().splitlines())


def _ended(trace: Path) -> int:
    return len({line.split()[1] for line in trace.read_bytes().splitlines() if line.startswith(b"e ")})


def _wait(condition: Any, seconds: float, problem: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{problem} (after {seconds:g} s)")
        time.sleep(_POLL_SECONDS)
