"""Reads tasks: their records, who sent them and who runs them, and what those that wait depend on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

from taskfleet import ids
from taskfleet.errors import SerializationError
from taskfleet.inspection import decoding
from taskfleet.inspection.decoding import End
from taskfleet.inspection.source import Source
from taskfleet.inspection.task_info import AttemptError, TaskInfo
from taskfleet.inspection.waiting import Surroundings, sentence
from taskfleet.protocol import attempt_errors, result_record
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.progress import Progress
from taskfleet.protocol.sealing import Seal
from taskfleet.protocol.status import DEAD, ENDED, UNKNOWN, Status
from taskfleet.protocol.task_record import Inspection, TaskRecord
from taskfleet.protocol.worker_info import WorkerInfo

ONE_BYTES, PAGE_BYTES = 262_144, 16_384  # of a payload or result: of a single task, and of one of many
LINE = 1000  # places of a queue in which a single task is looked for
# Where the tasks are looked for that a blocked one waits for: among the ids that the sender made just before and after,
# in so many partitions, and for a single task then among so many others in all.
_NEAR, _NEAR_IN_PAGES = 200, 20
_MOST_PARTITIONS, _MOST_PARTITIONS_IN_PAGES = 64, 4
_MOST_SCANNED = 20_000
_MOST_OTHERS = 20  # tasks that it waits for, of which the state is read


class _Told(NamedTuple):
    """What is known of one task besides its record. `single`: it was asked for alone."""

    end: End | None
    errors: list[AttemptError]
    names: dict[str, str]
    single: bool


class Reader:
    """Reads tasks for one call of the application. What several tasks share is read once."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._broker = source.broker
        self._seal = source.seal
        self._workers: list[WorkerInfo] | None = None
        self._partitions: list[Partition] | None = None
        self._started: dict[str, dict[str, int]] = {}  # worker → id → the start of its run, ms

    async def one(self, partition: Partition, task_id: str) -> TaskInfo | None:
        """A single task in full; `None` when the partition knows nothing of it."""
        found = await self._broker.inspect(partition, [task_id], most_bytes=ONE_BYTES, line=LINE)
        (info,) = await self._infos(partition, found, single=True)
        return info

    async def many(
        self, partition: Partition, task_ids: Sequence[str], ahead: Sequence[int], *, most_bytes: int = PAGE_BYTES
    ) -> list[TaskInfo | None]:
        """Several tasks of a partition, in their order. `ahead`: tasks before each in line, or -1."""
        found = await self._broker.inspect(partition, task_ids, most_bytes=most_bytes)
        records = [record._replace(ahead=n) for record, n in zip(found.records, ahead, strict=True)]
        return await self._infos(partition, found._replace(records=records), single=False)

    async def _infos(self, partition: Partition, found: Inspection, *, single: bool) -> list[TaskInfo | None]:
        queue, seal = queue_of(partition), self._seal
        ends = [decoding.end_of(record, queue=queue, seal=seal) for record in found.records]
        errors = [
            attempt_errors.unpack(record.errors) if end is None else end.earlier
            for record, end in zip(found.records, ends, strict=True)
        ]
        names = await self._names(found.records, errors)
        infos: list[TaskInfo | None] = []
        for record, end, stored in zip(found.records, ends, errors, strict=True):
            if record.state == UNKNOWN:
                infos.append(None)
                continue
            listed = [
                decoding.error_of(error, names.get(error.by), queue=queue, task_id=record.id, seal=seal)
                for error in stored
            ]
            if end is not None and record.state == DEAD:
                listed.append(end.last_error())
            infos.append(await self._info(partition, found, record, _Told(end, listed, names, single)))
        return infos

    async def _names(self, records: Sequence[TaskRecord], errors: Sequence[Sequence[StoredError]]) -> dict[str, str]:
        """The processes that made the ids, and the workers that hold or held the tasks."""
        wanted = [prefix for record in records if (prefix := ids.prefix_of(record.id))]
        wanted += [record.owner for record in records if record.owner]
        wanted += [error.by for stored in errors for error in stored if error.by]
        return await self._broker.introduced(list(dict.fromkeys(wanted)))

    async def _info(self, partition: Partition, found: Inspection, record: TaskRecord, told: _Told) -> TaskInfo:
        """The record that readers get."""
        end = told.end
        size = record.size
        if end is not None:
            is_cut = record.state == DEAD and record.record_size > len(record.record)
            size = record.record_size if is_cut else len(end.blob)
        queue = queue_of(partition)
        payload = decoding.payload_of(
            record.blob if end is None else end.blob, size, queue=queue, task_id=record.id, seal=self._seal
        )
        if payload.max_retries is None and payload.name is not None:
            payload.max_retries = self._source.max_retries_of(payload.name)
        common = TaskInfo(
            id=record.id,
            queue=queue,
            state=cast("Status", record.state),
            task=payload.name,
            args=payload.args,
            kwargs=payload.kwargs,
            enqueued_at=payload.enqueued_at,
            enqueued_by=told.names.get(ids.prefix_of(record.id) or ""),
            parent=payload.parent,
            max_retries=payload.max_retries,
            errors=tuple(told.errors),
            problem=payload.problem,
        )
        if end is not None:
            return _ended(common, end)
        return await self._unfinished(common, partition, found, record, told)

    async def _unfinished(
        self, common: TaskInfo, partition: Partition, found: Inspection, record: TaskRecord, told: _Told
    ) -> TaskInfo:
        worker = told.names.get(record.owner)
        running = record.state == "running"
        others = await self._others(partition, record, single=told.single) if record.state == "blocked" else []
        around = Surroundings(
            moment=found,
            options=self._source.known_options_of(common.queue),
            workers=[] if running else await self._workers_of(common.queue),
            others=others,
            max_retries=common.max_retries,
            line=LINE if told.single else 0,
        )
        return replace(
            common,
            due_at=decoding.moment(record.due_ms),
            started_at=await self._started_at(worker, record.id) if running and worker else None,
            worker=worker,
            lease_expires_at=decoding.moment(record.lease_ms) if running else None,
            attempt=record.attempt,
            deliveries=record.delivery,
            unique_key=record.unique,
            limit_key=record.limit,
            fair_key=record.fair,
            waits_for=tuple(task_id for task_id, _ in others),
            waiting=sentence(record, around),
            progress=_progress(record.progress),
        )

    async def _started_at(self, worker: str, task_id: str) -> dt.datetime | None:
        if worker not in self._started:
            self._started[worker] = {run.id: run.started_ms for run in await self._broker.runs_of(worker)}
        return decoding.moment(self._started[worker].get(task_id, 0))

    async def _workers_of(self, queue: str) -> list[WorkerInfo]:
        if self._workers is None:
            self._workers = await self._broker.workers()
        return [worker for worker in self._workers if queue in worker.queues]

    async def _others(self, partition: Partition, record: TaskRecord, *, single: bool) -> list[tuple[str, str]]:
        """(id, state) of the tasks that a blocked task waits for, as many as are found.

        The edges between tasks are stored with the task that ends first, so they have to be looked for.
        """
        if self._partitions is None:
            self._partitions = await self._broker.partitions()
        among = [partition, *(other for other in self._partitions if other != partition)]
        among = among[: _MOST_PARTITIONS if single else _MOST_PARTITIONS_IN_PAGES]
        near = ids.near(record.id, _NEAR if single else _NEAR_IN_PAGES)
        most = _MOST_SCANNED // len(among) if single else 0
        found: list[tuple[str, str]] = []
        for other in among:
            for task_id in await self._broker.waited_for(other, record.id, near, most=most):
                state, data = await self._broker.status(other, task_id)
                if state == ENDED:
                    state = _state_of_end(data, queue_of(other), task_id, self._seal)
                found.append((task_id, state))
            if len(found) >= min(record.pending, _MOST_OTHERS):
                break
        return found[:_MOST_OTHERS]


def _ended(common: TaskInfo, end: End) -> TaskInfo:
    return replace(
        common,
        state=end.state,
        ended_at=end.at,
        worker=end.worker,
        attempt=end.attempt,
        deliveries=end.deliveries,
        unique_key=end.keys.get("u"),
        limit_key=end.keys.get("l"),
        fair_key=end.keys.get("f"),
        result=end.result,
        error=end.error,
        traceback=end.traceback,
        reason=end.reason,
        problem=common.problem or end.problem,
    )


def _state_of_end(data: bytes, queue: str, task_id: str, seal: Seal) -> str:
    try:
        return result_record.unpack_end(data, queue=queue, task_id=task_id, seal=seal)[0]
    except SerializationError:
        return ENDED


def _progress(record: bytes) -> Progress | None:
    try:
        return Progress.of_record(record) if record else None
    except SerializationError:
        return None
