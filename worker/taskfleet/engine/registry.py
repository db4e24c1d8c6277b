"""What workers say of themselves in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker process, as its last heartbeat tells.

    `name` is the pod's name in a cluster; `worker_id` is `name/process number`. `state` is starting, running,
    draining, cordoned (empties itself) or drained (cordoned and empty).
    """

    worker_id: str
    name: str
    pid: int
    slots: int
    busy: int
    queues: tuple[str, ...]
    state: str
    heartbeat_age_seconds: float
    idle_seconds: float
    started_ms: int
    version: str

    @classmethod
    def of_hash(cls, worker_id: str, fields: Mapping[bytes, bytes], heartbeat_ms: float, now_ms: float) -> WorkerInfo:
        def text(name: str, default: str = "") -> str:
            value = fields.get(name.encode())
            return default if value is None else value.decode("utf-8", "replace")

        idle_since = int(text("idle_since_ms", "0"))
        return cls(
            worker_id=worker_id,
            name=text("name", worker_id.rsplit("/", 1)[0]),
            pid=int(text("pid", "0")),
            slots=int(text("slots", "0")),
            busy=int(text("busy", "0")),
            queues=tuple(q for q in text("queues").split(",") if q),
            state=text("state", "starting"),
            heartbeat_age_seconds=max(0.0, (now_ms - heartbeat_ms) / 1000),
            idle_seconds=max(0.0, (now_ms - idle_since) / 1000) if idle_since else 0.0,
            started_ms=int(text("started_ms", "0")),
            version=text("version"),
        )
