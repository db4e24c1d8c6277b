"""`deletionPolicy: Purge`: a finalizer keeps the TaskQueue until its workers are gone and its keys are deleted.

Only Purge has a finalizer, so that any other TaskQueue is deleted without an operator. Each step can be repeated: an
operator that dies in the middle is followed by one that begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pydantic

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.redis.broker import RedisBroker

from ...resource.manifest import problems
from ...resource.taskqueue import API_VERSION, KIND, TaskQueueResource
from ...scaling.overrides import ABANDON_PURGE
from ..api.kubernetes_api import ApiError, KubernetesApi, NotLeadingError
from ..status.conditions import Condition
from ..status.status_writer import StatusWriter
from ..store.cluster_store import ClusterStore, Key, Object
from .redis_credentials import MissingSecretError, ReadSecret, RedisCredentials, credentials_of, site_of
from .secrets import Secret

logger = showing.logger("taskfleet.operator")

FINALIZER = "taskfleet.io/purge"
CONDITION = "Purged"
_LOOK_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
_CLOSING_SECONDS = 10.0
_MARK_SECONDS = 60.0
_HOW_TO_GIVE_UP = f"annotate the TaskQueue with {ABANDON_PURGE}=true to leave its keys"


class _Waiting(Exception):
    """The purge cannot go on yet: a reason in one word, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Purging:
    """Holds the finalizers, and purges in the background, so that one Redis delays no other TaskQueue."""

    def __init__(
        self,
        cluster: KubernetesApi,
        store: ClusterStore,
        status: StatusWriter,
        shards: Sequence[str] | None = None,
    ) -> None:
        """`shards`: the namespaces, () for all, that have TaskQueues of other operators; None when there are none."""
        self._cluster = cluster
        self._shards = shards
        self._store = store
        self._status = status
        self._running: dict[Key, tuple[str, asyncio.Event, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[Any]] = set()

    async def guard(self, body: Object, queue: TaskQueueResource) -> None:
        """Give the finalizer to a TaskQueue whose policy is Purge, and take it from any other."""
        if (queue.spec.deletion_policy == "Purge") != _is_held(body):
            try:
                await self._set(body, held=queue.spec.deletion_policy == "Purge")
            except _Conflict:
                # A write of its status is no event for the reconciler: nothing would bring it again for a minute.
                raise ApiError(409, "the TaskQueue has changed since it was read") from None

    def ensure(self, key: Key, body: Object) -> None:
        """Purge a TaskQueue that is being deleted, if it has the finalizer."""
        if not _is_held(body):
            return
        uid = body["metadata"]["uid"]
        known = self._running.get(key)
        if known is not None and known[0] == uid and not known[2].done():
            known[1].set()
            return
        if known is not None:
            self._end(known[2])
        woken = asyncio.Event()
        self._running[key] = (uid, woken, asyncio.create_task(self._run(key, uid, woken)))

    async def close(self) -> None:
        for _, _, task in self._running.values():
            self._end(task)
        self._running.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=_CLOSING_SECONDS)

    def _end(self, running: asyncio.Task[None]) -> None:
        task = asyncio.ensure_future(end([running]))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _run(self, key: Key, uid: str, woken: asyncio.Event) -> None:
        looks = 0
        while True:
            woken.clear()
            body = self._store.queues.get(key)
            if body is None or body["metadata"].get("uid") != uid or not _is_held(body):
                return
            try:
                await self._step(key, body)
                return
            except (NotLeadingError, _Conflict):
                pass  # the next term purges, or the object has changed and is looked at again
            except Exception as error:
                with contextlib.suppress(ApiError):
                    await self._status.write(key, {}, [_told(error)], uid=uid)
                if looks == 0 or not isinstance(error, _Waiting):
                    logger.info("%s/%s: its keys are not purged yet: %s", *key, error)
            looks += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LONGEST_SECONDS, _LOOK_SECONDS * 2.0 ** min(looks // 5, 10))):
                    await woken.wait()

    async def _step(self, key: Key, body: Object) -> None:
        """Purge and release, or raise what is in the way."""
        if _is_abandoned(body):
            logger.warning("%s/%s: its keys stay in Redis, as %s says", *key, ABANDON_PURGE)
            await self._set(body, held=False)
            return
        queue = _parsed(body)
        if queue.spec.deletion_policy == "Purge":
            await self._purge(key, queue)
        await self._set(body, held=False)

    async def _purge(self, key: Key, queue: TaskQueueResource) -> None:
        credentials = await credentials_of(queue, self._reader(key))
        broker = credentials.connect()
        try:
            await self._alone(key, queue, credentials, broker)
            await self._stop_workers(key, queue)
            names = [one.name for one in queue.spec.queues]
            _nobody_serves(names, await broker.workers())
            logger.info("%s/%s: deleting all keys of queue %s", *key, ", ".join(names))
            await self._writer(key, broker).purge_keys(names)
        finally:
            await broker.close()

    async def _alone(
        self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials, broker: RedisBroker
    ) -> None:
        """Another TaskQueue that serves one of the queues needs its keys, unless these are deleted with it, too.

        One of which it is not known whether it does so may do so.
        """
        names = {one.name for one in queue.spec.queues}
        async for other_key, other_body in self._all():
            shared = sorted(names & _names_of(other_body)) if other_key != key else []
            if not shared:
                continue
            doubt = ""
            try:
                other = _parsed(other_body)
            except _Unreadable:
                doubt = ", whose spec cannot be read"
            else:
                if _is_purged(other_body, other):
                    continue  # two that are deleted together would wait for each other; workers are waited for
                try:
                    if not await self._same_redis(key, other_key, other, credentials, broker):
                        continue
                except _UnknownError as unknown:
                    doubt = f", if its Redis is this one, which is not known: {unknown}"
            raise _Waiting(
                "QueueShared",
                f"queue {', '.join(shared)} is also served by TaskQueue {'/'.join(other_key)}{doubt}: delete that one "
                f"first, or set deletionPolicy to Retain here; or {_HOW_TO_GIVE_UP}",
            )

    async def _all(self) -> AsyncIterator[tuple[Key, Object]]:
        """All TaskQueues, also those of other shards."""
        if self._shards is None:
            for known in list(self._store.queues.items()):
                yield known
            return
        for namespace in self._shards or (None,):
            async for page, _ in self._cluster.list_pages(API_VERSION, KIND, namespace):
                for body in page:
                    yield (body["metadata"]["namespace"], body["metadata"]["name"]), body

    def _reader(self, key: Key) -> ReadSecret:
        async def read(name: str) -> Secret | None:
            found = await self._cluster.get("v1", "Secret", key[0], name)
            return None if found is None else Secret(found.get("data") or {})

        return read

    async def _same_redis(
        self,
        key: Key,
        other_key: Key,
        other: TaskQueueResource,
        credentials: RedisCredentials,
        broker: RedisBroker,
    ) -> bool:
        """Whether both have the same keys. One server may have many addresses: what is written here is seen there."""
        if other.spec.redis.key_prefix != credentials.prefix:
            return False
        try:
            theirs = await credentials_of(other, self._reader(other_key))
        except MissingSecretError as error:
            raise _UnknownError(error) from None
        if site_of(theirs.url) == site_of(credentials.url):
            return True
        mark = secrets.token_hex(16)
        await self._writer(key, broker).leave_mark(mark, ttl_seconds=_MARK_SECONDS)
        elsewhere = theirs.connect()
        try:
            return await elsewhere.has_mark(mark)
        except (TaskQueueError, OSError) as error:
            raise _UnknownError(error) from None
        finally:
            await elsewhere.close()

    def _writer(self, key: Key, broker: RedisBroker) -> RedisBroker:
        """It asks before each of the calls, as a purge may take minutes and this process may be stopped meanwhile."""
        return broker.permitted(lambda: self._cluster.permit(f"purge of {'/'.join(key)}"))

    async def _stop_workers(self, key: Key, queue: TaskQueueResource) -> None:
        deployment = self._store.deployments.get(key)
        if deployment is not None and deployment["spec"].get("replicas") != 0:
            metadata = deployment["metadata"]
            await self._cluster.scale(key[0], metadata["name"], metadata["uid"], 0)
        if pods := list(self._store.pods(key)):
            raise _Waiting("WaitingForWorkers", f"{len(pods)} pods finish what they run, and end")

    async def _set(self, body: Object, *, held: bool) -> None:
        """Add or remove the finalizer. `_Conflict` when the object has changed since."""
        others = [one for one in body["metadata"].get("finalizers") or () if one != FINALIZER]
        try:
            await self._cluster.set_finalizers(body, [*others, FINALIZER] if held else others)
        except ApiError as error:
            if error.status == 404:
                return
            if error.conflict:
                raise _Conflict from None
            raise


class _Conflict(Exception):
    """The object has changed since it was read; the next event brings it again."""


class _Unreadable(Exception):
    """The spec cannot be used."""


class _UnknownError(Exception):
    """Nobody knows whether another TaskQueue has the same keys."""


def _is_held(body: Object) -> bool:
    return FINALIZER in (body["metadata"].get("finalizers") or ())


def _is_purged(body: Object, queue: TaskQueueResource) -> bool:
    """Whether its keys are deleted with it now."""
    ends = bool(body["metadata"].get("deletionTimestamp")) and _is_held(body)
    return ends and queue.spec.deletion_policy == "Purge" and not _is_abandoned(body)


def _is_abandoned(body: Object) -> bool:
    return (body["metadata"].get("annotations") or {}).get(ABANDON_PURGE) == "true"


def _parsed(body: Object) -> TaskQueueResource:
    try:
        return TaskQueueResource.model_validate({name: body[name] for name in ("metadata", "spec")})
    except pydantic.ValidationError as error:
        raise _Unreadable(problems(error)) from None
    except (ConfigurationError, KeyError) as error:
        raise _Unreadable(str(error)) from None


def _nobody_serves(names: Iterable[str], workers: Iterable[WorkerInfo]) -> None:
    wanted = set(names)
    left = sorted({info.name for info in workers if wanted & set(info.queues)})
    if left:
        told = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
        raise _Waiting("WaitingForWorkers", f"workers still serve its queues: {told}; or {_HOW_TO_GIVE_UP}")


def _names_of(body: Object) -> set[str]:
    """The names of its queues, also of a spec that cannot be used otherwise."""
    spec = body.get("spec")
    queues = spec.get("queues") if isinstance(spec, dict) else None
    named = [one.get("name") for one in queues if isinstance(one, dict)] if isinstance(queues, list) else []
    return {name for name in named if isinstance(name, str)}


def _told(error: Exception) -> Condition:
    if isinstance(error, _Waiting):
        return Condition(CONDITION, False, error.reason, str(error))
    if isinstance(error, MissingSecretError):
        reason = "SecretNotFound"
    elif isinstance(error, _Unreadable):
        reason = "InvalidSpec"
    else:
        reason = "RedisUnreachable" if isinstance(error, TaskQueueError) else "Failed"
    text = str(error) or type(error).__name__
    return Condition(CONDITION, False, reason, f"{text}; it is tried again; or {_HOW_TO_GIVE_UP}")
