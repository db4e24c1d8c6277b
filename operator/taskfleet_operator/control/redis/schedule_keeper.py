"""Keeps `spec.schedules` in Redis, beside the reconciler: a Redis that does not answer delays no other TaskQueue."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.schedules import Entry
from taskfleet.redis.broker import RedisBroker
from taskfleet.supervising import supervise

from ... import kept_schedules
from ...kept_schedules import Owner
from ...resource.taskqueue import API_VERSION, KIND, TaskQueueResource
from ..api.kubernetes_api import ApiError, KubernetesApi, NotLeadingError
from ..status.conditions import Condition
from ..status.status_writer import StatusWriter
from ..store.cluster_store import ClusterStore, Key, Object
from . import schedules
from .redis_credentials import RedisCredentials, site_of
from .schedules import CONDITION, NO_SCHEDULES

logger = showing.logger("taskfleet.operator")

_LOOK_SECONDS = 60.0  # ticks have happened, and others may have changed what is in Redis
_LOOKS_TOGETHER = 4
_TOLD_SECONDS = 300.0  # the ticks in status may be so old
_REFUSED_SECONDS = 2.0  # a late renewal of the Lease refuses writes for so long, and the term goes on
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0
_CLOSING_SECONDS = 10.0


class _Kept:
    """The schedules of one TaskQueue, as of the last `ensure`."""

    def __init__(self, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        self.queue = queue
        self.credentials = credentials
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.idle = False  # there is nothing to keep: the task has ended by itself
        self.left = False  # a schedule of it may be in any queue, also in one that the spec no longer has
        self.told_at = float("-inf")
        self.told: list[tuple[str, bool]] = []  # names, and whether each has a next tick

    @property
    def is_kept(self) -> bool:
        return self.idle or (self.task is not None and not self.task.done())


class ScheduleKeeper:
    """Adds, replaces and removes schedules, and tells their ticks. No call waits."""

    def __init__(self, cluster: KubernetesApi, store: ClusterStore, status: StatusWriter) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._kept: dict[Key, _Kept] = {}
        self._ending: set[asyncio.Task[Any]] = set()
        self._closed = False
        # At the start all TaskQueues are looked after. A few at a time for each Redis, for as long as one is.
        self._gates: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def ensure(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        """Keep the schedules of this version of the TaskQueue."""
        known = self._kept.get(key)
        if known is not None and known.queue.metadata.uid != queue.metadata.uid:
            self._end(known)
            known = None
        if known is None:
            known = self._kept[key] = _Kept(queue, credentials)
        elif (known.queue.spec, known.credentials) == (queue.spec, credentials) and known.is_kept:
            return
        known.left = known.left or bool(queue.spec.schedules) or self._has_told(key)
        known.queue, known.credentials, known.idle = queue, credentials, False
        known.changed.set()
        if known.task is None or known.task.done():
            subject = f"{key[0]}/{key[1]}: keeping its schedules"
            known.task = asyncio.create_task(supervise(subject, lambda: self._keep(key, known)))

    def _has_told(self, key: Key) -> bool:
        """Whether the status, of an earlier operator too, knows of schedules."""
        status = self._status.current(key)
        conditions = status.get("conditions") or ()
        return bool(status.get("schedules")) or any(
            one.get("type") == CONDITION and one.get("reason") != NO_SCHEDULES for one in conditions
        )

    def drop(self, key: Key, *, gone: bool) -> None:
        """End. The schedules of a TaskQueue that is `gone` are removed, with the credentials that it had."""
        known = self._kept.pop(key, None)
        if known is None:
            return
        self._end(known)
        if gone:
            self._background(self._clear(known))

    async def close(self) -> None:
        self._closed = True
        for key in list(self._kept):
            self.drop(key, gone=False)
        if self._ending:
            await asyncio.wait(self._ending, timeout=_CLOSING_SECONDS)

    def _end(self, known: _Kept) -> None:
        if known.task is not None:
            self._background(end([known.task]))

    def _background(self, work: Any) -> None:
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _keep(self, key: Key, known: _Kept) -> None:
        """Look until there is nothing to keep."""
        failures = 0
        while True:
            known.changed.clear()
            try:
                async with self._gate(known.credentials):
                    idle = await self._look(key, known)
                failures = 0
                if idle and not known.changed.is_set():
                    known.idle = True
                    return
                seconds = _LOOK_SECONDS
            except NotLeadingError:
                seconds = _REFUSED_SECONDS  # the end of the term ends this task; until then it may write again
            except Exception as error:
                failures += 1
                seconds = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
                await self._failed(key, known, error, failures)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await known.changed.wait()

    def _gate(self, credentials: RedisCredentials) -> asyncio.Semaphore:
        site = site_of(credentials.url)
        gate = self._gates.get(site)
        if gate is None:
            gate = self._gates[site] = asyncio.Semaphore(_LOOKS_TOGETHER)
        return gate

    async def _look(self, key: Key, known: _Kept) -> bool:
        """Bring Redis in line, and tell; returns whether the TaskQueue has no schedules, and Redis none of it."""
        queue, broker = known.queue, known.credentials.connect()
        everywhere = known.left
        try:
            wanted = kept_schedules.wanted_of(queue)
            own = {one.name for one in queue.spec.queues}
            there = await kept_schedules.stored(broker, own, everywhere=everywhere)
            plan = kept_schedules.plan_of(Owner.of(queue), wanted, there)
            await kept_schedules.carry_out(self._writer(key, broker), plan)
            if wanted:
                await self._clear_orphans(broker, key, there)
            if plan.add or plan.remove:
                there = await kept_schedules.stored(broker, own, everywhere=everywhere)
            now_ms = await broker.schedules.now_ms(wanted[0].partition) if wanted else 0
            workers = await broker.workers() if wanted else []
        finally:
            await broker.close()
        for one in plan.add:
            logger.info("%s/%s: schedule %s of queue %s is set", *key, one.name, queue_of(one.partition))
        for entry in plan.remove:
            logger.info("%s/%s: schedule %s of queue %s is removed", *key, entry.name, queue_of(entry.partition))
        serving = {queue_of(one.partition) for one in wanted}
        refusing = sorted({worker.name for worker in workers if worker.sealed_only and serving & set(worker.queues)})
        condition = schedules.verdict(wanted, plan.foreign, there, now_ms, refusing)
        await self._tell(key, known, schedules.statuses(wanted, there), condition)
        if known.queue is queue:
            known.left = bool(wanted)
        return not wanted

    async def _clear_orphans(self, broker: RedisBroker, key: Key, there: Sequence[Entry]) -> None:
        """Remove the schedules of TaskQueues of this namespace that were deleted while no operator was there."""
        alive = {name: "" for namespace, name in self._store.queues if namespace == key[0]}
        for owner, entries in kept_schedules.orphans(there, key[0], alive).items():
            # The store has only what the operator's selector lets it see.
            if await self._cluster.get(API_VERSION, KIND, owner.namespace, owner.name) is None:
                for entry in entries:
                    await self._writer(key, broker).schedules.remove(entry.partition, entry.name)
                    logger.info("%s/%s is gone: its schedule %s is removed", owner.namespace, owner.name, entry.name)

    async def _clear(self, known: _Kept) -> None:
        """Remove all schedules of a TaskQueue that is gone. What cannot be reached is left to `_clear_orphans`."""
        owner, broker = Owner.of(known.queue), known.credentials.connect()
        try:
            while True:
                try:
                    await self._clear_once(owner, known, broker)
                    return
                except NotLeadingError:
                    if self._closed:
                        raise
                    await asyncio.sleep(_REFUSED_SECONDS)
        except (TaskQueueError, ApiError, OSError) as error:
            logger.warning("%s/%s is deleted, and its schedules stay in Redis: %s", owner.namespace, owner.name, error)
        finally:
            await broker.close()

    async def _clear_once(self, owner: Owner, known: _Kept, broker: RedisBroker) -> None:
        # Another shard of the operator may serve it now.
        live = await self._cluster.get(API_VERSION, KIND, owner.namespace, owner.name)
        if live is not None and live["metadata"]["uid"] == owner.uid and not _is_ending(live):
            return
        own = {one.name for one in known.queue.spec.queues}
        writer = self._writer((owner.namespace, owner.name), broker)
        for entry in await kept_schedules.stored(broker, own, everywhere=known.left):
            if Owner.of_entry(entry) == owner:
                await writer.schedules.remove(entry.partition, entry.name)
                logger.info("%s/%s is deleted: its schedule %s is removed", owner.namespace, owner.name, entry.name)

    def _writer(self, key: Key, broker: RedisBroker) -> RedisBroker:
        return broker.permitted(lambda: self._cluster.permit(f"the schedules of {'/'.join(key)}"))

    async def _tell(
        self, key: Key, known: _Kept, told: list[dict[str, Any]], condition: Condition, *, failed: bool = False
    ) -> None:
        current = self._status.current(key)
        has = any(one.get("type") == CONDITION for one in current.get("conditions") or ())
        uid = known.queue.metadata.uid
        condition = replace(condition, generation=known.queue.metadata.generation)
        if not told and not has and condition.status:
            # A TaskQueue without schedules is told nothing about them. What somebody writes there does not stay.
            await self._status.write(key, {"schedules": None}, uid=uid, patient=True)
            return
        shape = [(one["name"], "nextScheduleTime" in one) for one in told]
        now = time.monotonic()
        patient = shape == known.told and now - known.told_at < _TOLD_SECONDS
        fields = {} if failed else {"schedules": told or None}
        if await self._status.write(key, fields, [condition], uid=uid, patient=patient) is not None and not patient:
            known.told, known.told_at = shape, now

    async def _failed(self, key: Key, known: _Kept, error: Exception, failures: int) -> None:
        if not known.queue.spec.schedules:
            return
        if failures == 1:
            logger.warning("%s/%s: its schedules are not kept: %s", *key, error)
        invalid = isinstance(error, ConfigurationError)
        if failures == 1 and not invalid:
            return  # a Redis that answers every second time would be told, and taken back, at each look
        expected = isinstance(error, (TaskQueueError, ApiError))
        told = str(error) if expected else f"{type(error).__name__}: {error}"
        reason = "InvalidSchedule" if invalid else "RedisUnreachable" if isinstance(error, TaskQueueError) else "Failed"
        with contextlib.suppress(ApiError):
            await self._tell(key, known, [], Condition(CONDITION, False, reason, told), failed=True)


def _is_ending(body: Object) -> bool:
    return bool(body["metadata"].get("deletionTimestamp"))
