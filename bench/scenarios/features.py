"""What each feature costs beside a plain task: processor time of producer, worker and Redis, and the longest call."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

import redis

from bench.children import PeerProcess
from bench.errors import BenchError
from bench.features.cases import FEATURES, Feature
from bench.peer import CHECKOUT
from bench.scenarios.stage import START_SECONDS, Stage, pause

COLUMNS = {
    "tasks_per_second": "tasks/s",
    "worker_us": "worker µs",
    "redis_us": "Redis µs",
    "enqueue_us": "enqueue µs",
    "enqueue_redis_us": "… Redis µs",
    "longest_call": "longest call ms",
}
"""The figures of each feature, and their titles: processor time per task, and the longest script call by SLOWLOG."""

UNITS = {f"{name}.{column}": title.split()[-1] for name in FEATURES for column, title in COLUMNS.items()}

_SLOWER_THAN_US = 200
_WARM_SHARE = 10  # of the tasks, about one in so many is run first and not counted


def features(stage: Stage) -> dict[str, float]:
    """Every feature after the other, each with processes of its own."""
    figures: dict[str, float] = {}
    tasks = 0
    with redis.Redis(port=stage.server.port) as client:
        client.config_set("slowlog-log-slower-than", _SLOWER_THAN_US)
        client.config_set("slowlog-max-len", 4096)
        for name, feature in FEATURES.items():
            client.flushall()
            client.slowlog_reset()
            found = _one(stage, name, feature)
            calls = [entry["duration"] for entry in client.slowlog_get(4096) if entry["command"].startswith(b"EVAL")]
            found["longest_call"] = max(calls, default=_SLOWER_THAN_US) / 1000
            figures |= {f"{name}.{column}": found[column] for column in COLUMNS}
            tasks = max(tasks, int(found["tasks"]))
    return figures | {
        "longest": max(figures[f"{name}.longest_call"] for name in FEATURES),
        "tasks": float(tasks),
    }


def _one(stage: Stage, name: str, feature: Feature) -> dict[str, float]:
    wanted = max(feature.least, 20, int(stage.load.tasks * feature.share))
    with _process(stage, name, "producer") as producer, _process(stage, name, "worker") as worker:
        slots, timeout = feature.slots or stage.load.slots, stage.load.timeout
        # The worker has run all of these when the others are sent, so each process that its slots need has started.
        warm = producer.ask("enqueue", timeout, tasks=max(slots, wanted // _WARM_SHARE))
        worker.ask("work", timeout, tasks=warm["tasks"], slots=slots)
        with _stopped(worker):
            sent = producer.ask("enqueue", timeout, tasks=wanted)
            pause(feature.wait)
            worker.send("work", tasks=warm["tasks"] + sent["tasks"], slots=slots)
        done = worker.expect("done", timeout)
    if done["tasks"] < sent["tasks"] * 0.5:
        raise BenchError(f"{name}: only {done['tasks']} of {sent['tasks']} tasks were measured")
    return {
        "tasks": sent["tasks"],
        "tasks_per_second": done["tasks"] / done["seconds"],
        "worker_us": done["cpu"] / done["tasks"] * 1e6,
        "redis_us": done["redis"] / done["tasks"] * 1e6,
        "enqueue_us": sent["cpu"] / sent["tasks"] * 1e6,
        "enqueue_redis_us": sent["redis"] / sent["tasks"] * 1e6,
    }


@contextlib.contextmanager
def _stopped(process: PeerProcess) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def _process(stage: Stage, name: str, role: str) -> PeerProcess:
    path = os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "worker")))
    command = (sys.executable, "-m", "bench.features.program", name, role)
    settings = {**stage.program.environment, "REDIS_URL": stage.server.url, "PYTHONPATH": path}
    child = PeerProcess(f"{name} {role}", command, settings)
    child.expect("ready", START_SECONDS)
    return child
