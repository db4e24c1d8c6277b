"""Workers that were busy at their last heartbeat, or could claim, and have sent none since.

A frozen node or a lost connection ends no task: until its lease has run out, the task belongs to its worker, which may
go on with it. So such a worker counts as busy for so long. One that was idle may have claimed a task just before the
heartbeat that did not come. Only a worker that was cordoned and idle, or has never sent a heartbeat, runs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from taskfleet.protocol.worker_info import WorkerInfo

from ..autoscaler import WorkerSample
from .order import ScalingOrder

STALE_HEARTBEAT_SECONDS = 30.0
"""A worker whose last heartbeat is older does not count: it is dead, or it cannot reach Redis."""
_HEARTBEAT_SECONDS = 5.0  # the most between two heartbeats: the last claim or renewal may be so much later than one


def live(processes: Iterable[WorkerInfo], age_seconds: float = 0.0) -> list[WorkerInfo]:
    """Those whose heartbeats, read `age_seconds` ago, still count."""
    return [one for one in processes if one.heartbeat_age_seconds <= STALE_HEARTBEAT_SECONDS - age_seconds]


class SilentWorkers:
    """Remembers the worker processes that may run tasks, and until when their leases hold.

    Before the first reading every worker may run tasks: it knows nothing of the time before `started`.
    """

    def __init__(self, started: float = float("-inf")) -> None:
        self._started: float | None = started  # None after the first reading
        self._busy: dict[str, dict[str, tuple[float, int]]] = {}  # replica → process → until when, how many tasks
        self._first: dict[
            str, tuple[float, int]
        ] = {}  # replica → lease and processes of the order that it started with

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
        self._started = None
        current = _longest_lease(order)
        first = {worker.name: self._first.get(worker.name, (current, order.processes)) for worker in workers}
        self._first = first
        self._busy = {worker.name: self._busy[worker.name] for worker in workers if worker.name in self._busy}
        filled: list[WorkerSample] = []
        for worker in workers:
            lease, asked = max(first[worker.name][0], current), first[worker.name][1]
            processes = live(heartbeats.get(worker.name, ()), age_seconds)
            heard = {one.worker_id for one in processes}
            known = {
                name: held
                for name, held in self._busy.pop(worker.name, {}).items()
                # A container that has started again has as many processes as before, with other names.
                if name not in heard and held[0] > now and len(heard) < asked
            }
            silent = sum(max(1, busy) for _, busy in known.values())
            filled.append(_with_tasks(worker, silent) if silent else worker)
            known |= {
                one.worker_id: (
                    now - age_seconds - one.heartbeat_age_seconds + _HEARTBEAT_SECONDS + lease,
                    one.busy,
                )
                for one in processes
                if one.busy or one.state == "running"
            }
            if known:
                self._busy[worker.name] = known
        return tuple(filled)

    def hold(self, now: float, order: ScalingOrder, replicas: Collection[str]) -> str:
        """Why no number may fall while Redis cannot be read, "" when it may."""
        held = [one for processes in self._busy.values() for one in processes.values()]
        left = max([until for until, _ in held], default=float("-inf")) - now
        busy = sum(any(tasks for _, tasks in processes.values()) for processes in self._busy.values())
        what = f"{busy} {'worker was' if busy == 1 else 'workers were'} busy" if busy else "a worker may have claimed"
        if self._started is not None and replicas:
            left = self._started + _HEARTBEAT_SECONDS + _longest_lease(order) - now
            what = "it has not been read yet, so that any worker may be busy"
        return f"Redis cannot be read, and {what}; leases may hold for {left:.0f} s" if left > 0 else ""


def _longest_lease(order: ScalingOrder) -> float:
    return max((queue.lease_seconds for queue in order.queues), default=0.0)


def _with_tasks(worker: WorkerSample, silent: int) -> WorkerSample:
    return replace(
        worker,
        registered=True,
        busy=worker.busy + silent,
        idle_seconds=0.0,
        drained=False,
        silent=not worker.registered,
    )
