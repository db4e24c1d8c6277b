"""Workers that were busy at their last heartbeat, and have sent none since.

A frozen node or a lost connection ends no task: until its lease has run out, the task belongs to its worker, which may
go on with it. So such a worker counts as busy for so long. A worker that was idle, or has never sent a heartbeat, runs
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from taskfleet.protocol.worker_info import WorkerInfo

from ..autoscaler import WorkerSample
from .order import ScalingOrder

STALE_HEARTBEAT_SECONDS = 30.0
"""A worker whose last heartbeat is older does not count: it is dead, or it cannot reach Redis."""


def live(processes: Iterable[WorkerInfo], age_seconds: float = 0.0) -> list[WorkerInfo]:
    """Those whose heartbeats, read `age_seconds` ago, still count."""
    return [one for one in processes if one.heartbeat_age_seconds <= STALE_HEARTBEAT_SECONDS - age_seconds]


class SilentWorkers:
    """Remembers the worker processes that run tasks, and until when their leases hold."""

    def __init__(self) -> None:
        self._busy: dict[str, dict[str, tuple[float, int]]] = {}  # replica → process → until when, how many tasks

    def fill(
        self,
        workers: Sequence[WorkerSample],
        heartbeats: Mapping[str, Sequence[WorkerInfo]],
        order: ScalingOrder,
        now: float,
        *,
        age_seconds: float = 0.0,
    ) -> tuple[WorkerSample, ...]:
        """The workers, with the tasks of processes that have fallen silent. The heartbeats were read `age_seconds`
        ago."""
        lease = max((queue.lease_seconds for queue in order.queues), default=0.0)
        self._busy = {worker.name: self._busy[worker.name] for worker in workers if worker.name in self._busy}
        filled: list[WorkerSample] = []
        for worker in workers:
            processes = live(heartbeats.get(worker.name, ()), age_seconds)
            heard = {one.worker_id for one in processes}
            known = {
                name: held
                for name, held in self._busy.pop(worker.name, {}).items()
                # A container that has started again has as many processes as before, with other names.
                if name not in heard and held[0] > now and len(heard) < order.processes
            }
            silent = sum(busy for _, busy in known.values())
            filled.append(_with_tasks(worker, silent) if silent else worker)
            known |= {
                one.worker_id: (now - age_seconds - one.heartbeat_age_seconds + lease, one.busy)
                for one in processes
                if one.busy
            }
            if known:
                self._busy[worker.name] = known
        return tuple(filled)

    def hold(self, now: float) -> str:
        """Why no number may fall while Redis cannot be read, "" when it may."""
        left = [max(until for until, _ in held.values()) - now for held in self._busy.values()]
        busy = [seconds for seconds in left if seconds > 0]
        if not busy:
            return ""
        return f"Redis cannot be read, and {len(busy)} workers were busy; their leases may hold for {max(busy):.0f} s"


def _with_tasks(worker: WorkerSample, silent: int) -> WorkerSample:
    return replace(
        worker,
        registered=True,
        busy=worker.busy + silent,
        idle_seconds=0.0,
        drained=False,
        silent=not worker.registered,
    )
