"""Everything that can be read, for the routes and for the pollers of the topics alike."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from taskfleet import queue_names
from taskfleet.errors import ConfigurationError, TaskNotFoundError
from taskfleet.handles import TaskHandle
from taskfleet.history import Span
from taskfleet.inspection import listing
from taskfleet.inspection.reading import Reader
from taskfleet.inspection.task_info import TaskInfo
from taskfleet.protocol.status import Status
from taskfleet.queue import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet.watching.snapshot import Snapshot
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.dead import DeadAnswer, DeadMatch, DeadPageAnswer, JobAnswer
from taskfleet_dashboard.answers.fleet import SchedulesAnswer, WorkersAnswer
from taskfleet_dashboard.answers.overview import OverviewAnswer
from taskfleet_dashboard.answers.queues import (
    AllKeysAnswer,
    HistoryAnswer,
    KeysAnswer,
    LimitRow,
    PartitionRow,
    QueueAnswer,
    QueueKeysRow,
)
from taskfleet_dashboard.answers.scalers import AuditAnswer, DecisionAnswer, ExplainAnswer, ScalerAnswer, WhatIfAnswer
from taskfleet_dashboard.answers.tasks import GraphAnswer, TaskAnswer, TaskPageAnswer, TaskRow
from taskfleet_dashboard.changing.audit import Audit
from taskfleet_dashboard.changing.jobs import Jobs
from taskfleet_dashboard.events.pace import ReadingPace
from taskfleet_dashboard.events.topics import Kind
from taskfleet_dashboard.masking import Masks
from taskfleet_dashboard.reading import fleet, recorded
from taskfleet_dashboard.reading.explaining import explain_answer
from taskfleet_dashboard.reading.fleet import FleetView
from taskfleet_dashboard.reading.graph import graph
from taskfleet_dashboard.reading.letters import LetterReader
from taskfleet_dashboard.reading.problems import Problems
from taskfleet_dashboard.reading.recorded import Recorded
from taskfleet_dashboard.reading.replaying import what_if_answer
from taskfleet_dashboard.reading.schedules import schedules_answer
from taskfleet_dashboard.reading.tasks import TaskText
from taskfleet_dashboard.refusals import Refused

_ROWS = 50  # queues in an event of the overview, and dead letters in one of theirs
_MOST_QUEUES_WITH_KEYS = 50
_KEYS = 100
_MOST_SECONDS = 1.0  # for a page of tasks; then it is what was found so far
_DEAD_STATES = ("failed", "dead", "cancelled")


class Desk:
    """Reads. Errors: `Refused`, and those of Taskfleet (`TaskNotFoundError`, `BrokerConnectionError`, …)."""

    def __init__(self, queue: TaskQueue, pace: ReadingPace, masks: Masks, jobs: Jobs, audit: Audit) -> None:
        self.queue_ = queue
        self.tasks_ = TaskText(queue.application, masks)
        self._fleet = FleetView(queue, pace, masks)
        self._letters = LetterReader(queue, self.tasks_)
        self._recorded = Recorded()
        self._jobs = jobs
        self._audit = audit

    @property
    def broker(self) -> RedisBroker:
        """The queues in Redis, for the running loop."""
        return cast("RedisBroker", self.queue_.broker)

    def topics(self) -> dict[str, Kind]:
        """What can be watched."""
        return {
            "overview": Kind(lambda _: self.overview("name", "", 0, _ROWS, paced=True), 2.0),
            "queue": Kind(lambda name: self.queue(name, paced=True), 2.0, subject=True),
            "task": Kind(self.task, 1.0, subject=True),
            "workers": Kind(lambda _: self.workers(paced=True), 2.0),
            "scaler": Kind(lambda name: self.scaler(name, "1h"), 5.0, subject=True),
            "dead": Kind(lambda _: self.letters(DeadMatch(), None, _ROWS), 5.0),
            "schedules": Kind(lambda _: self.schedules(), 5.0),
            "job": Kind(self.job, 1.0, subject=True),
        }

    # The fleet.

    async def overview(self, sort: str, search: str, offset: int, limit: int, *, paced: bool = False) -> OverviewAnswer:
        """The fleet at this moment."""
        snapshot = await self._fleet.snapshot(paced=paced)
        lines, total = fleet.chosen(snapshot, sort, search, offset, limit)
        self._fleet.show(line.name for line in lines)
        sparks = await self._recorded.sparks(self.broker, [line.name for line in lines])
        return OverviewAnswer(
            at=snapshot.at,
            unread=snapshot.unread,
            totals=fleet.totals(snapshot),
            workers=fleet.worker_totals(snapshot),
            queues=fleet.rows_of(lines, sparks, total=total, offset=offset),
            failures=self._fleet.failures(snapshot),
            scalers=await self._recorded.scalers(self.broker),
        )

    async def snapshot(self) -> Snapshot:
        """The latest reading of the fleet, or a new one if Redis may be asked now."""
        return await self._fleet.snapshot(paced=False)

    async def workers(self, *, paced: bool = False) -> WorkersAnswer:
        """The workers that live."""
        return await self._fleet.workers(paced=paced)

    async def all_keys(self, queue: str | None) -> AllKeysAnswer:
        """The heaviest keys of one queue, or of those with the most tasks."""
        snapshot = await self._fleet.snapshot(paced=False)
        if queue is not None:
            names, whole = [_valid(queue)], True
        else:
            lines = [line for line in snapshot.queues if line.stats is not None]
            lines.sort(key=lambda line: -(line.stats.ready + line.stats.delayed if line.stats else 0))
            names = [line.name for line in lines[:_MOST_QUEUES_WITH_KEYS]]
            whole = len(names) == len(snapshot.queues)
        limit_keys: list[QueueKeysRow] = []
        fair_keys: list[QueueKeysRow] = []
        problems = Problems()
        for name in names:
            found = KeysAnswer(limit_keys=[], fair_keys=[], whole=False)
            with problems.passed_over():
                found = recorded.keys_answer(await self._recorded.keys(self.broker, name))
            limit_keys += [QueueKeysRow(queue=name, **row.model_dump()) for row in found.limit_keys]
            fair_keys += [QueueKeysRow(queue=name, **row.model_dump()) for row in found.fair_keys]
            whole = whole and found.whole
        return AllKeysAnswer(
            limit_keys=_heaviest(limit_keys), fair_keys=_heaviest(fair_keys), whole=whole, problems=problems.lines()
        )

    # One queue.

    async def queue(self, name: str, *, paced: bool = False) -> QueueAnswer:
        """One queue. Errors: `Refused` for one that has never had a task and that the application does not name."""
        name = _valid(name)
        line = await self._fleet.line(name, paced=paced)
        if line is None:
            raise Refused(404, f"there is no queue {fleet.shown_name(name)}")
        broker = self.broker
        problems = Problems()
        sparks: dict[str, list[int | None]] = {}
        with problems.passed_over():
            sparks = await self._recorded.sparks(broker, [name])
        row = fleet.queue_row(line, sparks.get(name))
        options = next((each for each in self.queue_.application.queue_options if each.name == name), None)
        if line.partitions > 1:
            partitions: list[PartitionRow] = []
            for each in await broker.partitions(name):
                with problems.passed_over():
                    partitions.append(await self._partition(each))
        else:
            partitions = [
                PartitionRow(name=name, ready=row.ready, running=row.running, delayed=row.delayed, dead=row.dead)
            ]
        keys = KeysAnswer(limit_keys=[], fair_keys=[], whole=False)
        with problems.passed_over():
            keys = recorded.keys_answer(await self._recorded.keys(broker, name))
        states = {state: getattr(row, state) for state in ("ready", "running", "delayed", "blocked", "dead")}
        return QueueAnswer(
            row=row,
            partitions=partitions,
            options=None if options is None else dataclasses.asdict(options),
            limits=_limits(line),
            keys=keys,
            states={**states, "delayed": max(0, row.delayed - row.parked), "parked": row.parked},
            problems=problems.lines(),
        )

    async def _partition(self, name: str) -> PartitionRow:
        from taskfleet.redis.calls import operations

        stats = await self.broker.call(operations.stats(self.broker.keys_of(name), horizon_ms=0))
        return PartitionRow(
            name=name, ready=stats.ready, running=stats.in_flight, delayed=stats.delayed, dead=stats.dead
        )

    async def history(self, queue: str, span: str) -> HistoryAnswer:
        """The figures of a queue over time."""
        return await recorded.history_answer(self.broker, _valid(queue), cast("Span", span))

    # Tasks.

    async def tasks(
        self, queue: str | None, *, state: str | None, task: str | None, q: str, key: str, cursor: str | None,
        limit: int,
    ) -> TaskPageAnswer:  # fmt: skip
        """A page of tasks."""
        name = None if queue is None else _valid(queue)
        given = cast("Status | None", state)
        found = await self._by_id(q) if q and cursor is None else None
        if found is not None and _applies(found, name, state, task, key):
            return TaskPageAnswer(items=[self.tasks_.row(found)], cursor=None, examined=1)
        source = self.queue_.sessions
        matches = self.tasks_.matcher(q, key) if q or key else None
        problems = Problems()
        rows: list[TaskRow] = []
        examined, until = 0, time.monotonic() + _MOST_SECONDS
        while True:
            # One call looks at a bounded number of tasks and of queues. Many queues with few tasks need several.
            more = limit - len(rows)
            if matches is not None:
                page = await listing.matching(
                    source, name, matches, state=given, task=task, limit=more, cursor=cursor, passed_over=problems.add
                )
            else:
                page = await listing.tasks(
                    source, name, state=given, task=task, limit=more, cursor=cursor, passed_over=problems.add
                )
            rows += [self.tasks_.row(info) for info in page.items]
            examined, cursor = examined + page.examined, page.cursor
            if cursor is None or len(rows) >= limit or time.monotonic() > until:
                return TaskPageAnswer(items=rows, cursor=cursor, examined=examined, problems=problems.lines())

    async def _by_id(self, text_: str) -> TaskInfo | None:
        """The task of that id, if the text can be an id: a search for it has no need to look at others."""
        if len(text_) < 17 or not text_.isalnum():
            return None
        try:
            return await self._info(text_)
        except TaskNotFoundError:
            return None

    async def _info(self, task_id: str) -> TaskInfo:
        return await TaskHandle[object](self.queue_.sessions, task_id, None).info()

    async def task(self, task_id: str) -> TaskAnswer:
        """One task in full."""
        return self.tasks_.answer(await self._info(task_id))

    async def graph(self, task_id: str) -> GraphAnswer:
        """The workflow around a task."""
        return await graph(self.queue_, self.broker, task_id)

    # Dead letters and jobs.

    async def letters(self, match: DeadMatch, cursor: str | None, limit: int) -> DeadPageAnswer:
        """A page of dead letters."""
        if match.queue is not None:
            _valid(match.queue)
        return await self._letters.page(self.broker, match, cursor, limit)

    async def letter(self, task_id: str) -> DeadAnswer:
        """One dead letter in full. Errors: `TaskNotFoundError`, `Refused` for a task that is none."""
        partition = await TaskHandle[object](self.queue_.sessions, task_id, None).locate()
        info = await Reader(self.queue_.sessions).one(partition, task_id) if partition is not None else None
        if info is None:
            raise TaskNotFoundError(f"task {task_id} is not known: it never was here, was purged, or was discarded")
        answer = self.tasks_.answer(info)
        if info.state not in _DEAD_STATES or info.reason is None:
            raise Refused(404, f"task {task_id} is no dead letter: it is {info.state}")
        return DeadAnswer(**answer.model_dump(), attempts=info.attempt or 0, died_at=info.ended_at)

    async def job(self, job: str) -> JobAnswer:
        """How far a job is."""
        return await self._jobs.answer(self.broker, job)

    # The others.

    async def schedules(self) -> SchedulesAnswer:
        """All schedules."""
        return await schedules_answer(self.broker)

    async def audit(self, cursor: str | None) -> AuditAnswer:
        """The record of changes."""
        return await self._audit.page(self.broker, cursor)

    async def scaler(self, name: str, span: str) -> ScalerAnswer:
        """An autoscaler over time."""
        return await recorded.scaler_answer(self.broker, _scaler(name), span)

    async def decision(self, name: str, at: datetime) -> DecisionAnswer:
        """One decision in full."""
        return await recorded.decision_answer(self.broker, _scaler(name), at)

    async def explain(self, name: str) -> ExplainAnswer:
        """The last decision in words."""
        return explain_answer(name, (await recorded.decisions(self.broker, _scaler(name)))[-1])

    async def what_if(self, name: str, changes: Mapping[str, Any]) -> WhatIfAnswer:
        """What changed settings would have decided."""
        return await what_if_answer(await recorded.decisions(self.broker, _scaler(name)), changes)


def _applies(info: TaskInfo, queue: str | None, state: str | None, task: str | None, key: str) -> bool:
    """Whether everything applies that is given."""
    asked = ((queue, info.queue), (state, info.state), (task, info.task))
    keys = (info.unique_key, info.limit_key, info.fair_key)
    return all(wanted in (None, found) for wanted, found in asked) and (not key or key in keys)


def _valid(queue: str) -> str:
    """The name of a queue. Errors: `Refused`."""
    try:
        return queue_names.validate(queue)
    except ConfigurationError as error:
        raise Refused(422, str(error)) from None


def _scaler(name: str) -> str:
    namespace, slash, rest = name.partition("/")
    if not slash or not namespace or not rest or len(name) > 500:
        raise Refused(422, f"autoscaler {text.line(name)} is no NAMESPACE/NAME")
    return name


def _heaviest(rows: list[QueueKeysRow]) -> list[QueueKeysRow]:
    return sorted(rows, key=lambda row: (-row.waiting - (row.running or 0), row.queue, row.key))[:_KEYS]


def _limits(line: Any) -> list[LimitRow]:
    """The limits of the options that this dashboard knows, and their use."""
    options, stats = line.options, line.stats
    found: list[LimitRow] = []

    def add(name: str, limit: float | None, used: float | None) -> None:
        if limit:
            found.append(LimitRow(name=cast("Any", name), limit=limit, used=used))

    add("concurrency", options.concurrency, stats.in_flight if stats is not None else None)
    add("rate", options.rate_limit.tasks_per_second if options.rate_limit else None, line.finished_per_second)
    waiting = stats.ready + stats.delayed + stats.blocked if stats is not None else None
    add("length", options.max_length, waiting)
    add("concurrency per key", options.concurrency_per_key, None)
    add("rate per key", options.rate_limit_per_key.tasks_per_second if options.rate_limit_per_key else None, None)
    return found
