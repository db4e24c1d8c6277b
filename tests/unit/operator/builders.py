"""Figures of a queue and heartbeats of workers, as Redis has them; metadata of objects, as Kubernetes has it."""

from __future__ import annotations

from typing import Any

from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.worker_info import WorkerInfo

STATS = QueueStats(
    ready=7,
    in_flight=2,
    delayed=5,
    due=3,
    dead=1,
    oldest_age_seconds=4.0,
    enqueued_total=100,
    finished_total=90,
    failed_total=1,
    busy_ms_total=45_000,
    paused=False,
)


def worker(name: str, *, busy: int = 0, idle: float = 0.0, age: float = 1.0, state: str = "running") -> WorkerInfo:
    pod, _, number = name.partition("/")
    return WorkerInfo(
        worker_id=f"{pod}/{number or 0}",
        name=pod,
        pid=1,
        slots=4,
        busy=busy,
        queues=("default",),
        state=state,
        heartbeat_age_seconds=age,
        idle_seconds=idle,
        started_ms=0,
        version="1",
    )


def controlled_by(api_version: str, kind: str, name: str, uid: str) -> dict[str, Any]:
    """The metadata of an object with that controller."""
    return {
        "ownerReferences": [{"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": True}]
    }
