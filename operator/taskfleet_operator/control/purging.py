"""`deletionPolicy: Purge`: a finalizer keeps the TaskQueue until its workers are gone and its keys are deleted.

Only Purge has a finalizer, so that any other TaskQueue is deleted without an operator. Each step can be repeated: an
operator that dies in the middle is followed by one that begins again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import pydantic

from taskfleet import showing
from taskfleet.cancellation import end
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.protocol.worker_info import WorkerInfo
from taskfleet.redis import urls

from ..resource.manifest import problems
from ..resource.taskqueue import TaskQueueResource
from .cluster_store import ClusterStore, Key, Object
from .conditions import Condition
from .kubernetes_api import ApiError, KubernetesApi, NotLeadingError
from .redis_credentials import MissingSecretError, ReadSecret, RedisCredentials, credentials_of
from .secrets import Secret
from .status_writer import StatusWriter

logger = showing.logger("taskfleet.operator")

FINALIZER = "taskfleet.io/purge"
ABANDON = "taskfleet.io/abandon-purge"
CONDITION = "Purged"
_LOOK_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
_CLOSING_SECONDS = 10.0
_HOW_TO_GIVE_UP = f"annotate the TaskQueue with {ABANDON}=true to leave its keys"


class _Waiting(Exception):
    """The purge cannot go on yet: a reason in one word, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Purging:
    """Holds the finalizers, and purges in the background, so that one Redis delays no other TaskQueue."""

    def __init__(self, cluster: KubernetesApi, store: ClusterStore, status: StatusWriter) -> None:
        self._cluster = cluster
        self._store = store
        self._status = status
        self._running: dict[Key, tuple[str, asyncio.Event, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[Any]] = set()

    async def guard(self, body: Object, queue: TaskQueueResource) -> None:
        """Give the finalizer to a TaskQueue whose policy is Purge, and take it from any other."""
        if (queue.spec.deletion_policy == "Purge") != _is_held(body):
            with contextlib.suppress(_Conflict):
                await self._set(body, held=queue.spec.deletion_policy == "Purge")

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
            logger.warning("%s/%s: its keys stay in Redis, as %s says", *key, ABANDON)
            await self._set(body, held=False)
            return
        queue = _parsed(body)
        if queue.spec.deletion_policy == "Purge":
            await self._purge(key, queue)
        await self._set(body, held=False)

    async def _purge(self, key: Key, queue: TaskQueueResource) -> None:
        credentials = await credentials_of(queue, self._reader(key))
        await self._alone(key, queue, credentials)
        await self._stop_workers(key, queue)
        broker = credentials.connect()
        try:
            names = [one.name for one in queue.spec.queues]
            _nobody_serves(names, await broker.workers())
            if not self._cluster.may_write():
                raise NotLeadingError(f"purge of {'/'.join(key)}")
            logger.info("%s/%s: deleting all keys of queue %s", *key, ", ".join(names))
            await broker.purge_keys(names)
        finally:
            await broker.close()

    async def _alone(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        """Another TaskQueue that serves one of the queues needs its keys, unless these are deleted with it, too."""
        names = {one.name for one in queue.spec.queues}
        for other_key, other_body in list(self._store.queues.items()):
            if other_key == key:
                continue
            with contextlib.suppress(_Unreadable):
                other = _parsed(other_body)
                if _is_purged(other_body, other):
                    continue  # two that are deleted together would wait for each other; workers are waited for
                shared = sorted(names & {one.name for one in other.spec.queues})
                if shared and await self._same_redis(other_key, other, credentials):
                    raise _Waiting(
                        "QueueShared",
                        f"queue {', '.join(shared)} is also served by TaskQueue {'/'.join(other_key)}: delete that one "
                        f"first, or set deletionPolicy to Retain here; or {_HOW_TO_GIVE_UP}",
                    )

    def _reader(self, key: Key) -> ReadSecret:
        async def read(name: str) -> Secret | None:
            found = await self._cluster.get("v1", "Secret", key[0], name)
            return None if found is None else Secret(found.get("data") or {})

        return read

    async def _same_redis(self, key: Key, other: TaskQueueResource, credentials: RedisCredentials) -> bool:
        if other.spec.redis.key_prefix != credentials.prefix:
            return False
        try:
            theirs = await credentials_of(other, self._reader(key))
        except MissingSecretError:
            return True  # nobody knows where it is, so it may be here
        return _address(theirs.url) == _address(credentials.url)

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


def _is_held(body: Object) -> bool:
    return FINALIZER in (body["metadata"].get("finalizers") or ())


def _is_purged(body: Object, queue: TaskQueueResource) -> bool:
    """Whether its keys are deleted with it now."""
    ends = bool(body["metadata"].get("deletionTimestamp")) and _is_held(body)
    return ends and queue.spec.deletion_policy == "Purge" and not _is_abandoned(body)


def _is_abandoned(body: Object) -> bool:
    return (body["metadata"].get("annotations") or {}).get(ABANDON) == "true"


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


def _address(url: str) -> str:
    return f"{urls.address(url)}/{urls.parse(url).database}"


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
