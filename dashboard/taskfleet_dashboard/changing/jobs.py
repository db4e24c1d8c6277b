"""Jobs: many dead letters requeued or discarded, some at a time, with progress, and the undo of a discard.

A job runs in the process that was asked. What is known of it is kept in Redis for an hour, so any process of the
dashboard can tell how far it is, and undo it. A process that ends in the middle leaves a job that has stopped; what it
has done stays done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import secrets
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from taskfleet import showing
from taskfleet.errors import TaskQueueError
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.redis_errors import CallRefusedError
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.dead import DeadMatch, DeadOrder, JobAnswer
from taskfleet_dashboard.changing.audit import Audit
from taskfleet_dashboard.reading.letters import LetterReader, ListedLetter
from taskfleet_dashboard.refusals import Refused

logger = showing.logger("taskfleet.dashboard")

Action = Literal["requeue", "discard"]

UNDO_SECONDS = 600.0
MOST_HELD, MOST_HELD_BYTES = 10_000, 16 * 1_048_576
"""Discarded letters that all jobs of one process hold at one time, and their bytes."""

_MOST_RUNNING = 4
_MOST_COUNTED = 50  # partitions whose held letters are counted; those of others are as many as were told
_KEPT_SECONDS = 3600.0
_TOLD_SECONDS = 0.5  # between two writes of how far a job is
_SILENT_SECONDS = 30.0  # after which nobody runs it any more


@dataclass(slots=True)
class LetterJob:
    """A job, as it is kept in Redis."""

    job: str
    action: Action
    user: str
    started: float
    state: Literal["running", "done", "failed", "undone"] = "running"
    done: int = 0
    stayed: int = 0
    examined: int = 0
    total: int | None = None
    error: str | None = None
    undo_until: float = 0.0
    held: dict[str, int] = field(default_factory=dict[str, int])  # by partition, noted before anything is deleted there
    beat: float = 0.0

    def pack(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode("utf-8", "replace")

    @classmethod
    def unpack(cls, packed: bytes) -> LetterJob:
        """Errors: `ValueError` for what no dashboard has written."""
        try:
            job = cls(**json.loads(packed))
            job.answer(time.time(), sum(job.held.values()))
            for partition in job.held:
                queue_of(Partition(partition))
        except (TypeError, AttributeError, LookupError, RecursionError, OverflowError, OSError) as error:
            raise ValueError(str(error)) from None
        return job

    def lost(self, now: float) -> bool:
        """Whether its process has ended without a word."""
        return self.state == "running" and now - self.beat > _SILENT_SECONDS

    def answer(self, now: float, undoable: int) -> JobAnswer:
        """How far it is at `now` (Unix s); `undoable` letters are held in Redis."""
        lost = self.lost(now)
        return JobAnswer(
            job=self.job,
            action=self.action,
            state="failed" if lost else self.state,
            done=self.done,
            stayed=self.stayed,
            total=self.total,
            examined=self.examined,
            error="the dashboard that ran it has ended" if lost else self.error,
            undo_until=datetime.fromtimestamp(self.undo_until, UTC) if undoable else None,
            undoable=undoable,
            user=self.user,
            started_at=datetime.fromtimestamp(self.started, UTC),
        )


class _Room:
    """How many discarded letters may still be held. What was held gets free when its time to live is over."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[float, int, int]] = {}  # by job, whose letters all go at one time

    def left(self, now: float) -> tuple[int, int]:
        self._taken = {job: each for job, each in self._taken.items() if each[0] > now}
        letters, size = sum(each[1] for each in self._taken.values()), sum(each[2] for each in self._taken.values())
        return max(0, MOST_HELD - letters), max(0, MOST_HELD_BYTES - size)

    def take(self, job: str, until: float, letters: int, size: int) -> None:
        if letters:
            _, others, taken = self._taken.get(job, (until, 0, 0))
            self._taken[job] = until, others + letters, taken + size


class Jobs:
    """All jobs of this process. `letters` reads the dead letters."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._room = _Room()
        self._holding = asyncio.Lock()
        self._running: dict[str, tuple[LetterJob, asyncio.Task[None]]] = {}
        self._starting = 0

    @property
    def running(self) -> int:
        """The number of jobs that run here."""
        return len(self._running)

    async def start(
        self, broker: RedisBroker, letters: LetterReader, action: Action, order: DeadOrder, user: str
    ) -> str:
        """Start a job; returns its id. Errors: `Refused` when too many run."""
        if len(self._running) + self._starting >= _MOST_RUNNING:
            raise Refused(429, f"{_MOST_RUNNING} jobs run already, which is the most; wait for one of them")
        now = time.time()
        job = LetterJob(secrets.token_hex(8), action, user, now, beat=now)
        self._starting += 1
        try:
            await self._keep(broker, job)
            detail = f"job {job.job}: {_told(order)}"
            await self._audit.note(
                broker, user=user, action=action, subject=_subject(order), detail=detail, outcome="started"
            )
        finally:
            self._starting -= 1
        task = asyncio.create_task(self._run(broker, letters, job, order), name=f"taskfleet dashboard: job {job.job}")
        self._running[job.job] = job, task
        task.add_done_callback(lambda _: self._running.pop(job.job, None))
        return job.job

    async def _run(self, broker: RedisBroker, letters: LetterReader, job: LetterJob, order: DeadOrder) -> None:
        try:
            if order.ids is not None:
                await self._some(broker, job, order.queue or "", order.ids)
            else:
                await self._matching(broker, letters, job, order.match or DeadMatch())
            job.state = "done"
        except (TaskQueueError, Refused) as error:
            job.state, job.error = "failed", text.line(str(error))
        except asyncio.CancelledError:
            job.state, job.error = "failed", "the dashboard has ended"
            with contextlib.suppress(TaskQueueError):
                await self._keep(broker, job)
            raise
        except Exception as error:
            logger.error("job %s has failed", job.job, exc_info=error)
            job.state, job.error = "failed", "the dashboard has met an error of its own; its log has the details"
        with contextlib.suppress(TaskQueueError):
            await self._keep(broker, job)
            outcome = f"{job.state}: {job.done} {job.action}{'d' if job.action == 'requeue' else 'ed'}"
            outcome += f", {job.stayed} stayed" if job.stayed else ""
            await self._audit.note(
                broker, user=job.user, action=job.action, subject=_subject(order), detail=f"job {job.job}",
                outcome=f"{outcome}: {job.error}" if job.error else outcome,
            )  # fmt: skip

    async def _some(self, broker: RedisBroker, job: LetterJob, queue: str, ids: list[str]) -> None:
        """The letters with these ids. Those that are not there any more are not among the done ones."""
        job.total = len(ids)
        for partition in await broker.partitions(queue):
            await self._act(broker, job, partition, ids)
        job.examined = len(ids)
        job.stayed = len(ids) - job.done

    async def _matching(self, broker: RedisBroker, letters: LetterReader, job: LetterJob, match: DeadMatch) -> None:
        """The letters that match and have died before the job began: a task that dies again meanwhile is not one."""
        partitions = await letters.partitions(broker, match)
        stats = await broker.stats_many([match.queue] if match.queue is not None else await broker.queues())
        job.total = sum(each.dead for each in stats.values())
        told = 0.0
        for partition in partitions:
            until_ms = float(await broker.now_ms(partition))
            async for found in letters.walk(broker, partition, match, None, until_ms=until_ms):
                job.examined += len(found)
                wanted = [letter for letter in found if letters.matches(match, letter.info)]
                if wanted:
                    await self._act_on(broker, job, partition, wanted)
                if time.monotonic() - told > _TOLD_SECONDS:
                    told = time.monotonic()
                    await self._keep(broker, job)

    async def _act_on(
        self, broker: RedisBroker, job: LetterJob, partition: Partition, wanted: list[ListedLetter]
    ) -> None:
        before = job.done
        await self._act(broker, job, partition, [letter.id for letter in wanted])
        job.stayed += len(wanted) - (job.done - before)

    async def _act(self, broker: RedisBroker, job: LetterJob, partition: Partition, ids: list[str]) -> None:
        if job.action == "requeue":
            moved, _ = await broker.requeue_letters(partition, ids)
            job.done += moved
            return
        if partition not in job.held:
            # First where, and then the deletion: who undoes a job whose process was killed finds all that it holds.
            job.held[partition], job.undo_until = 0, time.time() + UNDO_SECONDS
            await self._keep(broker, job)
        async with self._holding:  # jobs that see the same room would all fill it
            room, room_bytes = self._room.left(time.time())
            gone = await broker.discard_letters(
                partition, ids, job=job.job, hold_ms=math.floor(UNDO_SECONDS * 1000), room=room, room_bytes=room_bytes
            )
            if gone.held:
                job.undo_until = time.time() + UNDO_SECONDS  # each discard is held so long, however long the job takes
            self._room.take(job.job, job.undo_until, gone.held, gone.held_bytes)
        job.done += gone.deleted
        job.held[partition] += gone.held

    async def _keep(self, broker: RedisBroker, job: LetterJob) -> None:
        job.beat = time.time()
        await broker.put_note(f"job:{job.job}", job.pack(), ttl_seconds=_KEPT_SECONDS)

    async def answer(self, broker: RedisBroker, job_id: str) -> JobAnswer:
        """How far a job is. Errors: `Refused` for one that is not known."""
        job, now = await self._find(broker, job_id), time.time()
        ended = job.state in ("done", "failed") or job.lost(now)
        return job.answer(now, await self._held(broker, job) if ended else 0)

    @staticmethod
    async def _held(broker: RedisBroker, job: LetterJob) -> int:
        """How many letters an undo brings back. Redis knows; the job may have ended before it could count them."""
        if len(job.held) <= _MOST_COUNTED:
            with contextlib.suppress(CallRefusedError):  # another program has written one of those lists
                return sum([await broker.held_letters(Partition(each), job.job) for each in job.held])
        return sum(job.held.values())

    async def _find(self, broker: RedisBroker, job_id: str) -> LetterJob:
        here = self._running.get(job_id)
        if here is not None:
            here[0].beat = time.time()
            return here[0]
        packed = await broker.note(f"job:{job_id}") if job_id.isalnum() else None
        try:
            if packed is not None:
                return LetterJob.unpack(packed)
        except ValueError as error:
            raise Refused(404, f"job {job_id} cannot be read: {error}") from None
        raise Refused(404, f"there is no job {text.line(job_id)}; jobs are kept for an hour")

    async def undo(self, broker: RedisBroker, job_id: str, user: str) -> JobAnswer:
        """Bring the letters of a discard back. Errors: `Refused` when there is nothing to bring back."""
        job = await self._find(broker, job_id)
        now = time.time()
        if job.state == "running" and not job.lost(now):
            raise Refused(409, "the job still runs; undo it when it is done")
        if job.action != "discard":
            raise Refused(409, "only a discard can be undone: a requeued task may have run already")
        if job.state == "undone":
            raise Refused(409, "the job is undone already")
        if not job.held or not await self._held(broker, job):
            raise Refused(409, "nothing of this job is kept any more: a discard can be undone for ten minutes")
        restored = 0
        for partition in list(job.held):
            restored += await broker.restore_letters(Partition(partition), job.job)
        job.state = "undone"
        await self._keep(broker, job)
        await self._audit.note(
            broker, user=user, action="undo", subject=f"job {job.job}", outcome=f"done: {restored} brought back"
        )
        return job.answer(now, 0)

    async def close(self) -> None:
        """Stop all jobs. What they have done stays done."""
        for _, task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _subject(order: DeadOrder) -> str:
    queue = order.queue if order.ids is not None else order.match.queue if order.match is not None else None
    return f"dead letters of {queue}" if queue else "dead letters of all queues"


def _told(order: DeadOrder) -> str:
    if order.ids is not None:
        return f"{len(order.ids)} by id"
    given: dict[str, Any] = order.match.model_dump(exclude_none=True, mode="json") if order.match is not None else {}
    given.pop("queue", None)
    return "all that match " + ", ".join(f"{name}={value}" for name, value in given.items()) if given else "all"
