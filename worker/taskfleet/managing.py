"""The part of a `TaskQueue` by which queues and their tasks are shown and managed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, get_args

from taskfleet import checks, queue_names
from taskfleet.application import Application
from taskfleet.handles import TaskHandle
from taskfleet.protocol.status import UNKNOWN, Status
from taskfleet.session import Sessions

if TYPE_CHECKING:
    from taskfleet.inspection.task_info import TaskPage
    from taskfleet.protocol.dead_letter import DeadLetter
    from taskfleet.protocol.stats import QueueStats
    from taskfleet.protocol.worker_info import WorkerInfo

_TEXT_CHARACTERS = 1000
_STATES = tuple(state for state in get_args(Status) if state != UNKNOWN)


class Managing:
    """Every method reads or changes the queues at once; nothing is cached.

    What reads the life of tasks is imported by the methods that use it: a worker has no use for it.
    """

    application: Application
    sessions: Sessions

    async def health_check(self) -> bool:
        """True when Redis answers; otherwise `BrokerConnectionError` with the reason."""
        await self.sessions.broker.ping()
        return True

    async def queue_stats(self, name: str, *, horizon: float = 0.0) -> QueueStats:
        """The figures of one queue; delayed tasks within `horizon` seconds count as due."""
        name = queue_names.validate(name)
        horizon_ms = int(checks.seconds("horizon", horizon) * 1000)
        return (await self.sessions.broker.stats_many([name], horizon_ms=horizon_ms))[name]

    async def workers(self) -> list[WorkerInfo]:
        """The live workers of all processes, as their last heartbeats describe them."""
        return await self.sessions.broker.workers()

    async def get_metrics(self) -> dict[str, QueueStats]:
        """The figures of all queues."""
        return await self.sessions.broker.stats_many(await self.sessions.broker.queues())

    async def dead_letters(self, name: str, *, limit: int = 100, cursor: int = 0) -> list[DeadLetter]:
        """Dead letters, the oldest first, from position `cursor`."""
        from taskfleet.protocol.dead_letter import DeadLetter

        checks.whole("limit", limit)
        checks.whole("cursor", cursor)
        letters = self.sessions.broker.dead_letters(queue_names.validate(name), offset=cursor, limit=limit)
        seal = self.application.seal
        return [DeadLetter.of_packed(task_id, packed, queue=name, seal=seal) async for task_id, packed in letters]

    async def requeue_dead(self, name: str, ids: Sequence[str] | None = None) -> int:
        """Requeue dead letters (`None`: all); returns their number."""
        if ids is not None:
            given = checks.several("ids", ids, "task ids, or None for all")
            ids = [checks.key("ids: one", each, what="an id") for each in given]
        return await self.sessions.broker.requeue_dead(queue_names.validate(name), ids)

    async def purge_dead(self, name: str) -> int:
        """Delete all dead letters; returns their number."""
        return await self.sessions.broker.purge_dead(queue_names.validate(name))

    async def purge(self, name: str) -> int:
        """Delete all tasks that wait in the queue; returns how many. Tasks that run go on."""
        return await self.sessions.broker.purge(queue_names.validate(name))

    async def pause(self, name: str) -> None:
        """Let workers claim no more tasks of the queue; tasks that run go on.

        Of a queue with partitions, those that have had a task are paused, and as many as its options here say.
        """
        partitions = self.application.known_options_of(queue_names.validate(name)).partitions
        await self.sessions.broker.pause(name, partitions=partitions)

    async def resume(self, name: str) -> None:
        """Let workers claim tasks of a paused queue again."""
        await self.sessions.broker.resume(queue_names.validate(name))

    # Single tasks.

    async def list_tasks(
        self,
        name: str | None = None,
        *,
        state: Status | None = None,
        task: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        """A page of the tasks of one queue, or of all (`None`): running ones first, then those that wait, then those
        that have ended and of which something is kept.

        Args:
            state: only tasks in this state; the ready ones in the order in which they start, the delayed ones by their
                time.
            task: only tasks of this name. One that has succeeded is kept without its name.
            limit: the most tasks of the page, at most 1000.
            cursor: the `cursor` of the page before it.

        A task that stays where it is while the pages are read is listed once. One that moves on meanwhile can come
        twice or not at all. No call takes long: it looks at a bounded number of tasks, and may return fewer than
        `limit`.
        Errors: `ConfigurationError` names the argument.
        """
        from taskfleet.inspection import listing

        return await listing.tasks(
            self.sessions,
            _queue(name),
            state=_state(state),
            task=task if task is None else checks.key("task", task, what="a task's name"),
            limit=checks.whole("limit", limit, least=1, most=listing.MOST_LIMIT),
            cursor=cursor,
        )

    async def search_tasks(
        self,
        text: str,
        name: str | None = None,
        *,
        state: Status | None = None,
        task: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        """A page of the tasks that have `text` in their name, their arguments or an error, or at the start of their id.

        Case does not matter. The arguments of a task are searched up to 64 KB, and not without the key that opens them.
        One call looks at about 5000 tasks (`TaskPage.examined`): while there is a cursor, there may be more.
        The other arguments and the errors are those of `list_tasks`.
        """
        from taskfleet.inspection import listing

        return await listing.search(
            self.sessions,
            checks.key("text", text, what="a text to search for"),
            _queue(name),
            state=_state(state),
            task=task if task is None else checks.key("task", task, what="a task's name"),
            limit=checks.whole("limit", limit, least=1, most=listing.MOST_LIMIT),
            cursor=cursor,
        )

    async def retry(self, task_id: str) -> bool:
        """Send a task that is a dead letter back to its queue, with all its attempts before it and its errors kept.

        Returns false for a task that has not ended, which runs anyway. Errors: `TaskStateError` says why a task that
        has ended otherwise cannot be retried, `TaskNotFoundError` that there is none.
        """
        from taskfleet.inspection import retrying

        task_id = checks.key("task_id", task_id, what="an id")
        partition = await TaskHandle[object](self.sessions, task_id, None).locate()
        return await retrying.retry(self.sessions, partition, task_id)


def _queue(name: str | None) -> str | None:
    return None if name is None else queue_names.validate(name)


def _state(state: object) -> Status | None:
    return None if state is None else checks.choice(_STATES)("state", state)
