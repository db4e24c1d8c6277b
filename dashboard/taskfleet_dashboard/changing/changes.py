"""Everything that can be changed, in the name of one user. Each change is in the record, also one that failed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from taskfleet.errors import TaskQueueError
from taskfleet.handles import TaskHandle
from taskfleet.queue import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet_dashboard.answers.answer import DoneAnswer
from taskfleet_dashboard.answers.dead import DeadOrder, JobAnswer, JobStarted
from taskfleet_dashboard.changing.audit import Audit
from taskfleet_dashboard.changing.jobs import Action, Jobs
from taskfleet_dashboard.reading.letters import LetterReader
from taskfleet_dashboard.reading.schedules import entry_of
from taskfleet_dashboard.refusals import Refused

CORDON_SECONDS = 86_400.0  # the bound of a cordon that everybody has forgotten


@dataclass(slots=True)
class _Noted:
    detail: str = ""
    outcome: str = "done"


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes something. Errors: `Refused`, and those of Taskfleet."""

    queue: TaskQueue
    broker: RedisBroker
    letters: LetterReader
    jobs: Jobs
    audit: Audit
    user: str

    @contextlib.asynccontextmanager
    async def _noted(self, action: str, subject: str, *, succeeds: bool = True) -> AsyncGenerator[_Noted]:
        """Note how the change came out; without `succeeds` only a failure, since a job notes the rest itself."""
        told = _Noted()
        try:
            yield told
        except (Refused, TaskQueueError) as error:
            told.outcome = str(error)
            with contextlib.suppress(TaskQueueError):  # Redis may be why
                await self._note(action, subject, told)
            raise
        if succeeds:
            await self._note(action, subject, told)

    async def _note(self, action: str, subject: str, told: _Noted) -> None:
        await self.audit.note(
            self.broker, user=self.user, action=action, subject=subject, detail=told.detail, outcome=told.outcome
        )

    # Queues.

    async def _known(self, name: str) -> None:
        """Errors: `Refused` for a queue that nobody knows, so that a mistyped name changes nothing."""
        known = {each.name for each in self.queue.application.queue_options}
        if name not in known and name not in await self.broker.queues():
            raise Refused(404, f"there is no queue {name!r:.120}")

    async def pause(self, name: str) -> DoneAnswer:
        """Let workers claim no more tasks of the queue."""
        async with self._noted("pause", f"queue {name}"):
            await self._known(name)
            await self.queue.pause(name)
        return DoneAnswer(changed=True)

    async def resume(self, name: str) -> DoneAnswer:
        """Let workers claim its tasks again."""
        async with self._noted("resume", f"queue {name}"):
            await self._known(name)
            await self.queue.resume(name)
        return DoneAnswer(changed=True)

    async def purge(self, name: str, confirmed: str) -> DoneAnswer:
        """Delete its waiting tasks."""
        async with self._noted("purge", f"queue {name}") as told:
            if confirmed != name:
                raise Refused(422, "confirm is not the name of the queue; nothing was deleted")
            await self._known(name)
            count = await self.queue.purge(name)
            told.outcome = f"done: {count} deleted"
        return DoneAnswer(changed=count > 0, count=count)

    # Workers.

    async def cordon(self, name: str) -> DoneAnswer:
        """Let a worker claim nothing more, for a day or until it is uncordoned. Its tasks go on."""
        async with self._noted("cordon", f"worker {name}") as told:
            told.detail = await self._worker(name)
            await self.broker.hold(name, ttl_seconds=CORDON_SECONDS)
        return DoneAnswer(changed=True, detail=told.detail)

    async def uncordon(self, name: str) -> DoneAnswer:
        """Let it claim again. A cordon of an autoscaler, which is about to remove it, stays."""
        async with self._noted("uncordon", f"worker {name}") as told:
            changed = await self.broker.release(name)  # also of one that has gone meanwhile
            if not changed:
                await self._worker(name)
                told.detail = "nobody had cordoned it; a cordon of an autoscaler ends by itself"
        return DoneAnswer(changed=changed, detail=told.detail)

    async def _worker(self, name: str) -> str:
        """How much it runs. Errors: `Refused` for a name that no worker has, so that a mistyped one changes nothing."""
        found = [each for each in await self.queue.workers() if each.name == name]
        if not found:
            raise Refused(404, f"there is no worker {name!r:.120}")
        busy = sum(each.busy for each in found)
        return f"it runs {busy} task{'' if busy == 1 else 's'}, which go{'es' if busy == 1 else ''} on" if busy else ""

    # Tasks.

    async def cancel(self, task_id: str) -> DoneAnswer:
        """Cancel a task."""
        async with self._noted("cancel", f"task {task_id}") as told:
            handle = TaskHandle[object](self.queue.sessions, task_id, None)
            if await handle.locate() is None:
                raise Refused(
                    404, f"task {task_id} is not known: it never was here, was purged, or its result has expired"
                )
            changed = await handle.cancel()
            why = "" if changed else "it has ended already, or is being cancelled"
            told.detail = why
        return DoneAnswer(changed=changed, detail=why)

    async def retry(self, task_id: str) -> DoneAnswer:
        """Send a dead letter back to its queue."""
        async with self._noted("retry", f"task {task_id}") as told:
            changed = await self.queue.retry(task_id)
            why = "" if changed else "it has not ended, so it will run anyway"
            told.detail = why
        return DoneAnswer(changed=changed, detail=why)

    # Dead letters.

    async def start(self, action: Action, order: DeadOrder) -> JobStarted:
        """Start a job about dead letters."""
        named = order.queue if order.ids is not None else order.match.queue if order.match is not None else None
        async with self._noted(action, f"dead letters of {named or 'all queues'}", succeeds=False):
            if named is not None:
                await self._known(named)
            return JobStarted(job=await self.jobs.start(self.broker, self.letters, action, order, self.user))

    async def undo(self, job: str) -> JobAnswer:
        """Bring the letters of a discard back."""
        async with self._noted("undo", f"job {job}", succeeds=False):
            return await self.jobs.undo(self.broker, job, self.user)

    # Schedules.

    async def run_schedule(self, queue: str, name: str) -> DoneAnswer:
        """Send the task of a schedule now."""
        async with self._noted("run", f"schedule {name} of {queue}") as told:
            await entry_of(self.broker, queue, name)
            handle = await self.queue.run_schedule(name)
            told.detail = f"task {handle.id}"
        return DoneAnswer(changed=True, detail=handle.id)

    async def pause_schedule(self, queue: str, name: str, *, paused: bool) -> DoneAnswer:
        """Pause a schedule, or let it tick again."""
        async with self._noted("pause" if paused else "resume", f"schedule {name} of {queue}"):
            await entry_of(self.broker, queue, name)
            await (self.queue.pause_schedule(name) if paused else self.queue.resume_schedule(name))
        return DoneAnswer(changed=True)
