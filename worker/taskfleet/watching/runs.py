"""The runs that have gone on longest, from the heartbeats of their workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskfleet.inspection import decoding
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet.watching.snapshot import RunLine
from taskfleet.watching.watched import WatchedFleet

if TYPE_CHECKING:
    from taskfleet.protocol.worker_info import WorkerInfo

_MOST = 30
_MOST_LOOKS = 32  # partitions that one reading asks for the tasks of these runs
_TOGETHER = 50
_PAYLOAD_BYTES = 4096


class _LongRun(NamedTuple):
    id: str
    worker: str
    seconds: float  # at the time of the reading


class Runs:
    """A run's task and queue are looked for once, in the partitions in which something runs."""

    def __init__(self, queue: WatchedFleet) -> None:
        self._queue = queue
        self._runs: list[_LongRun] = []
        self._found: dict[str, tuple[str, str]] = {}  # id → task, queue
        self._looked_in: dict[str, set[Partition]] = {}

    async def read(self, workers: Sequence[WorkerInfo]) -> None:
        """The longest runs of these workers: they are among those of the workers with the longest ones."""
        busy = [worker for worker in workers if worker.busy and worker.oldest_run_seconds > 0]
        busy.sort(key=lambda worker: worker.oldest_run_seconds + worker.heartbeat_age_seconds, reverse=True)
        runs: list[_LongRun] = []
        for worker in busy[:_MOST]:
            try:
                of_worker = await self._queue.broker.runs_of(worker.worker_id)
            except CallRefusedError:  # another program has written that key; the other workers are shown
                continue
            # Relative to its oldest run, whose duration the worker tells: whatever the clocks of both machines say.
            oldest = worker.oldest_run_seconds + worker.heartbeat_age_seconds
            first_ms = min((run.started_ms for run in of_worker), default=0)
            for run in of_worker:
                seconds = max(0.0, oldest - (run.started_ms - first_ms) / 1000)
                runs.append(_LongRun(run.id, worker.worker_id, seconds))
        runs.sort(key=lambda run: run.seconds, reverse=True)
        self._runs = runs[:_MOST]
        ids = {run.id for run in self._runs}
        self._found = {task_id: told for task_id, told in self._found.items() if task_id in ids}
        self._looked_in = {task_id: places for task_id, places in self._looked_in.items() if task_id in ids}

    async def find(self, partitions: Sequence[Partition]) -> None:
        """Look for the tasks of runs that are not known yet, in some of these partitions."""
        seal, looks = self._queue.application.seal, 0
        for partition in partitions:
            missing = [
                run.id
                for run in self._runs
                if run.id not in self._found and partition not in self._looked_in.setdefault(run.id, set())
            ][:_TOGETHER]
            if not missing:
                continue
            looks += 1
            if looks > _MOST_LOOKS:
                return
            try:
                found = await self._queue.broker.inspect(partition, missing, most_bytes=_PAYLOAD_BYTES)
            except CallRefusedError:  # as the line of its queue says
                continue
            for task_id, record in zip(missing, found.records, strict=False):
                self._looked_in[task_id].add(partition)
                if record.state == "running":
                    queue = queue_of(partition)
                    told = decoding.payload_of(record.blob, record.size, queue=queue, task_id=task_id, seal=seal)
                    self._found[task_id] = (told.name or "", queue)

    def rows(self, age_seconds: float) -> list[RunLine]:
        """The runs, longest first, so many seconds after they were read."""
        return [
            RunLine(run.id, *self._found.get(run.id, ("", "")), worker=run.worker, seconds=run.seconds + age_seconds)
            for run in self._runs
        ]
