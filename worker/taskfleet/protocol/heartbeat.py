"""The heartbeat of a worker: its fields in Redis."""

from __future__ import annotations

from typing import NamedTuple


class HeartbeatFields(NamedTuple):
    """The fields of a heartbeat, as they are stored in the hash of a worker. Other fields are not read.

    `queues` are the names of queues, with commas between them; `idle_since_ms` is 0 while the worker holds a task;
    `oldest_run_ms` is how long its oldest run has taken so far, 0 without a run; `sealed_only` is 1 when the worker
    refuses what no key of its application has sealed. `incarnation` is the owner of its leases, and `runs` are its
    longer runs (protocol/introductions.py); `host` is the name of its machine or pod; `clock_ms` is
    the time by its clock.
    """

    name: str
    pid: int
    slots: int
    busy: int
    queues: str
    state: str
    started_ms: int
    idle_since_ms: int
    version: str
    stuck: int
    oldest_run_ms: int = 0
    sealed_only: int = 0
    incarnation: str = ""
    runs: str = ""
    host: str = ""
    clock_ms: int = 0


_UNREAD = ("incarnation", "runs")  # read for single tasks only: protocol/introductions.py
FIELDS = tuple(field for field in HeartbeatFields._fields if field not in _UNREAD)
