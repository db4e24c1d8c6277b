"""What the doctor says of servers, workers and queues: each limit, just below and just above it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from taskfleet import QueueStats, WorkerInfo
from taskfleet.doctor import environment
from taskfleet.redis.doctor.servers import RedisFacts, Replica

WELL = RedisFacts(
    address="127.0.0.1:6379", version="8.0.0", is_valkey=True, role="master", policy="noeviction", most_bytes=0,
    used_bytes=0, appends=True, appends_well=True, saves=True, saves_well=True, replicas=(), clock_seconds=0.0,
    clock_error_seconds=0.001,
)  # fmt: skip
WORKER = WorkerInfo("w/1", "w", 1, 4, 0, ("q",), "running", 1.0, 0.0, 1, "1.0")
IDLE = QueueStats(0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0, paused=False)


@pytest.mark.parametrize(
    ("is_valkey", "version", "told"),
    [
        (False, "6.2.0", None),
        (False, "6.0.16", "Redis 6.0.16 is older than 6.2"),
        (True, "7.2.4", None),
        (True, "7.0.15", "Valkey 7.0.15 is older than 7.2"),
        (False, "10.0.0", None),
        (True, "unstable", None),
    ],
)
def test_an_old_server(is_valkey: bool, version: str, told: str | None) -> None:
    found = environment.of_servers([replace(WELL, is_valkey=is_valkey, version=version)])
    assert [(each.code, each.what) for each in found] == ([("old-server", told)] if told else [])


@pytest.mark.parametrize(
    ("replica", "told"),
    [
        (Replica("r:1", True, 10, 10_000_000), None),
        (Replica("r:1", True, 11, 5), "the replica is 5 bytes behind, silent for 11 s"),
        (Replica("r:1", True, 0, 10_000_001), "the replica is 10000001 bytes behind, silent for 0 s"),
        (Replica("r:1", False, 0, 0), "the replica is not online, 0 bytes behind, silent for 0 s"),
    ],
)
def test_a_replica_that_is_behind(replica: Replica, told: str | None) -> None:
    found = environment.of_servers([replace(WELL, replicas=(Replica("r:0", True, 0, 0), replica))])
    assert [(each.code, each.subject, each.what) for each in found] == (
        [("replica-behind", "r:1", told)] if told else []
    )


@pytest.mark.parametrize(
    ("seconds", "error", "told"),
    [
        (2.0, 0.0, None),
        (-3.0, 1.5, None),
        (2.5, 0.1, "its clock is 2.5 s ahead of this machine's"),
        (-60.0, 0.1, "its clock is 60.0 s behind this machine's"),
    ],
)
def test_the_clock_of_a_server(seconds: float, error: float, told: str | None) -> None:
    found = environment.of_servers([replace(WELL, clock_seconds=seconds, clock_error_seconds=error)])
    assert [(each.code, each.what) for each in found] == ([("clock", told)] if told else [])


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"policy": "volatile-lru"}, ["eviction"]),
        ({"policy": ""}, []),
        ({"most_bytes": 100, "used_bytes": 89}, []),
        ({"most_bytes": 100, "used_bytes": 90}, ["memory"]),
        ({"appends": False, "saves": True}, ["persistence"]),
        ({"appends": False, "saves": None}, ["persistence"]),
        ({"appends_well": False}, ["persistence-fails"]),
        ({"saves_well": False}, ["persistence-fails"]),
    ],
)
def test_memory_and_disk(changes: dict[str, Any], codes: list[str]) -> None:
    assert [each.code for each in environment.of_servers([replace(WELL, **changes)])] == codes


def test_workers() -> None:
    def told(worker: WorkerInfo, *cordons: str) -> list[tuple[str, str, str]]:
        found = environment.of_workers([worker], cordons, "1.0")
        assert {each.severity for each in found} <= {"warning"}
        return [(each.code, each.subject, each.what) for each in found]

    assert told(WORKER, "w") == []
    assert told(replace(WORKER, clock_skew_seconds=-10.0)) == []
    assert told(replace(WORKER, clock_skew_seconds=-10.1)) == [
        ("clock", "w/1", "its clock is 10.1 s behind that of Redis")
    ]
    assert told(replace(WORKER, version="0.9")) == [
        ("worker-version", "w/1", "it runs version 0.9, and this program is 1.0")
    ]
    assert told(replace(WORKER, version="")) == []
    assert [each[:2] for each in told(WORKER, "v", "w")] == [("cordon-left", "v")]


@pytest.mark.parametrize(
    ("changes", "worker", "known", "codes"),
    [
        ({}, False, False, []),
        ({"paused": True}, True, True, []),
        ({"dead": 3}, False, False, []),
        ({"ready": 1}, True, False, []),
        ({"ready": 1}, False, True, ["queue-unserved"]),
        ({"delayed": 1}, False, False, ["queue-unknown"]),
        ({"blocked": 1, "paused": True}, True, True, ["queue-paused"]),
        ({"in_flight": 1, "paused": True}, False, True, ["queue-unserved", "queue-paused"]),
    ],
)
def test_queues(changes: dict[str, Any], worker: bool, known: bool, codes: list[str]) -> None:
    stats = {"q": replace(IDLE, **changes)}
    found = environment.of_queues(stats, [WORKER] if worker else [], ["q"] if known else [])
    assert [each.code for each in found] == codes
    assert {each.queue for each in found} <= {"q"}
