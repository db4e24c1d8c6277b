"""The stage of every scenario: a fresh server, and the processes of a peer."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from bench.children import PeerProcess
from bench.errors import BenchError
from bench.peer import Program, Role
from bench.server import BenchServer

START_SECONDS = 30.0
_MOST_WARM_TASKS = 2000
IDLE_MS = 1500  # one of several workers is done when it has had nothing to do for so long


@dataclass(frozen=True, slots=True)
class Growth:
    """How far the curves go. Each begins small, and grows tenfold from point to point."""

    waiting: int = 5_000_000
    keys: int = 1_000_000  # and members of one group
    workers: int = 500
    queues: int = 1_000
    partitions: int = 12
    partitioned: int = 100_000  # tasks of a partitioned queue
    claims: int = 500  # at each size
    idle_seconds: float = 30.0  # for which an idle fleet is watched: the longest period of what a worker repeats
    settle_seconds: float = 3.0  # before that


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked of each peer."""

    tasks: int = 20_000
    patience: float = 1.0  # of the most tasks that a slow peer may be given, so many
    slots: int = 100
    producers: int = 50
    latency_tasks: int = 200
    processes: int = 4
    sleepers: int = 20_000
    sleeping_slots: int = 1_000
    delayed_tasks: int = 10_000
    many: int = 1_000_000
    few: int = 1_000
    at_once: int = 100_000
    busy_key_tasks: int = 100_000
    chaos_tasks: int = 200_000
    chaos_seconds: float = 270.0  # for which faults happen
    round_trip_ms: float = 2.0
    growth: Growth = Growth()
    timeout: float = 300.0  # seconds for one step

    def for_one_with(self, most: int) -> Load:
        """The load of a peer that is to have at most so many tasks in a run."""
        return replace(self, tasks=min(self.tasks, max(1, int(most * self.patience))))

    @property
    def warm_tasks(self) -> int:
        """Run first and not counted: enough for compilers, pools and caches, and not many of a slow peer."""
        return max(20, min(_MOST_WARM_TASKS, self.tasks // 5))


@dataclass(frozen=True, slots=True)
class Stage:
    """One peer, one scenario, one fresh server."""

    program: Program
    label: str
    server: BenchServer
    load: Load
    stack: ExitStack

    def child(self, role: Role, *, url: str | None = None, **environment: str) -> PeerProcess:
        command = (*self.program.command, role)
        settings = {**self.program.environment, "REDIS_URL": url or self.server.url, **environment}
        child = self.stack.enter_context(PeerProcess(f"{self.label} {role}", command, settings))
        child.expect("ready", START_SECONDS)
        return child

    def fill(self, producer: PeerProcess, tasks: int) -> float:
        """Enqueue in the way that every peer has; seconds."""
        done = producer.ask("enqueue", self.load.timeout, tasks=tasks, producers=self.load.producers)
        return float(done["seconds"])

    def begin_work(self, worker: PeerProcess, tasks: int, **request: Any) -> None:
        """Have the worker consume; `end_work` reads its answer."""
        worker.send("work", **{"tasks": tasks, "slots": self.load.slots, **request})
        worker.expect("consuming", START_SECONDS)

    def end_work(self, worker: PeerProcess, tasks: int) -> dict[str, Any]:
        done = worker.expect("done", self.load.timeout)
        if done["tasks"] != tasks:
            raise BenchError(f"{self.label} ran {done['tasks']} tasks of {tasks}")
        return done

    def drain(self, worker: PeerProcess, tasks: int, **request: Any) -> float:
        """Have the worker empty the queue; seconds from the first task's start to the last one's end."""
        self.begin_work(worker, tasks, **request)
        return float(self.end_work(worker, tasks)["seconds"])

    def warm(self, producer: PeerProcess, worker: PeerProcess) -> None:
        self.fill(producer, self.load.warm_tasks)
        self.drain(worker, self.load.warm_tasks)


def pause(seconds: float) -> None:
    """For scenarios that measure an idle worker."""
    time.sleep(seconds)
