"""The reconciler: brings the children of a TaskQueue in line with its spec, one short sequence of steps.

Parse, read the credentials, build the children, find whose the objects of their names are, rehearse every change, write
them, tell the status. A step that fails ends the sequence before anything is written; `refusals` has the words for it.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Generator, Mapping
from dataclasses import replace

import pydantic

from taskfleet import showing
from taskfleet.errors import ConfigurationError

from ...children import KINDS, Child, ChildKind
from ...children.names import selector
from ...resource.checks import check
from ...resource.manifest import problems
from ...resource.taskqueue import TaskQueueResource, not_supported
from ...scaling.overrides import RECONCILE, are_children_left_alone, misread
from ..api.kubernetes_api import ApiError, KubernetesApi, NotLeadingError
from ..fleet.scaling_loops import ScalingLoops
from ..pods.handover import HandoverWaitsError
from ..redis.purging import Purging
from ..redis.redis_credentials import RedisCredentials, credentials_of, secret_names
from ..redis.schedule_keeper import ScheduleKeeper
from ..redis.secrets import SecretCache
from ..status.conditions import Condition
from ..status.status_writer import StatusWriter
from ..store.cluster_store import DEPLOYMENT, ClusterStore, Key, Object, is_ready
from . import applying
from .applying import ApplyError, Change
from .corrections import Corrections
from .ownership import EndingChildError, ForeignObjectError, find_child, is_ending, is_owned
from .refusals import RESYNC_SECONDS, InvalidSpecError, ReconcileRefusal, refusal_of

logger = showing.logger("taskfleet.operator")

_FIRST_RETRY_SECONDS, _PATIENCE = 0.5, 3


class Reconciler:
    """`reconcile(key)` is level-triggered: it reads the current state, regardless of the event that caused the call."""

    def __init__(
        self,
        cluster: KubernetesApi,
        store: ClusterStore,
        status: StatusWriter,
        loops: ScalingLoops,
        secrets: SecretCache,
        keeper: ScheduleKeeper,
        purging: Purging,
    ) -> None:
        self._cluster = cluster
        self._secrets = secrets
        self._keeper = keeper
        self._purging = purging
        self._store = store
        self._status = status
        self._loops = loops
        self._corrections = Corrections()
        self._failures: dict[Key, int] = {}
        self._absent: dict[Key, set[tuple[str | None, str]]] = {}  # uid of the TaskQueue, kind: known not to be there

    async def reconcile(self, key: Key) -> float | None:
        """Bring the children in line with the TaskQueue. Returns the seconds until the next call, None for no call."""
        body = self._store.queues.get(key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            # The children have owner references: the garbage collector deletes them, even without an operator.
            self._loops.drop(key)
            self._secrets.keep(key, ())
            self._corrections.forget(key)
            self._keeper.drop(key, gone=True)
            self._failures.pop(key, None)
            self._absent.pop(key, None)
            if body is None:
                self._status.forget(key)
            else:
                self._purging.ensure(key, body)
            return None
        try:
            after = await self._steps(key, body)
        except NotLeadingError:
            raise
        except Exception as error:
            if _is_ending(error):
                return None  # the namespace is deleted, and the TaskQueue with it
            if not isinstance(error, HandoverWaitsError) and (fleet := self._loops.fleet(key)) is not None:
                fleet.make_way(wanted=False)  # what waited is no longer wanted: the rollout before it goes on
            return await self._refuse(key, body["metadata"].get("generation"), refusal_of(error))
        self._failures.pop(key, None)
        return after

    async def _steps(self, key: Key, body: Object) -> float | None:
        if are_children_left_alone(body["metadata"].get("annotations") or {}):
            return await self._leave_alone(key)
        queue = _parsed(body)
        await self._purging.guard(body, queue)
        self._secrets.keep(key, secret_names(queue.spec.redis))
        credentials = await credentials_of(queue, lambda name: self._secrets.get(key, name))
        wanted = _built(queue, credentials.digests)
        spared: dict[str, ApplyError] = {}
        live = await self._owned(key, queue, wanted, spared)
        try:
            await self._apply(key, queue, wanted, live, spared)
        except HandoverWaitsError:
            self._follow_meanwhile(key, queue, credentials)
            raise
        await self._remove(key, queue, wanted, spared)
        self._loops.ensure(key, queue, credentials)
        self._keeper.ensure(key, queue, credentials)
        if spared:
            raise next(iter(spared.values()))
        await self._succeed(key, queue)
        return RESYNC_SECONDS

    async def _leave_alone(self, key: Key) -> float:
        """Touch nothing, and tell what is there: somebody else sets the number of replicas now."""
        self._loops.drop(key)
        self._keeper.drop(key, gone=False)
        deployment, pods = self._store.deployments.get(key), self._store.pods(key)
        asked = 0 if deployment is None else int(deployment["spec"].get("replicas", 1))
        ready = sum(map(is_ready, pods.values()))
        told = f"{RECONCILE} is disabled"
        reason = "ReconcileDisabled"
        conditions = [Condition(kind, False, reason, told) for kind in ("Progressing", "Reconciled", "ScalingActive")]
        conditions.append(Condition("Ready", ready >= asked, reason, f"{told}; {ready} of {asked} workers are ready"))
        fields = {"replicas": len(pods), "readyReplicas": ready, "desiredReplicas": asked}
        await self._status.write(key, fields, conditions)
        return RESYNC_SECONDS

    def _follow_meanwhile(self, key: Key, queue: TaskQueueResource, credentials: RedisCredentials) -> None:
        """Scale by the new spec while its pods wait: a TaskQueue that is suspended must not start tasks for hours.

        The pods that are there serve the Redis of the spec before.
        """
        fleet = self._loops.fleet(key)
        if fleet is not None and fleet.resource.spec.redis == queue.spec.redis:
            self._loops.ensure(key, queue, credentials)

    async def _owned(
        self, key: Key, queue: TaskQueueResource, wanted: Mapping[str, Child], spared: dict[str, ApplyError]
    ) -> dict[str, Object]:
        """Those that exist, by kind. `ForeignObjectError` when somebody else's object has the name of a wanted one,
        `EndingChildError` when one is being deleted.

        Here and below, `spared` collects the refusals of children that stop no other child.
        """
        found: dict[str, Object] = {}
        foreign: list[tuple[ChildKind, Object]] = []
        for kind in (one for one in KINDS if one.kind in wanted):
            live = None
            with _sparing(kind, spared):
                live = await find_child(kind, key, queue, self._store, self._cluster)
            if live is None:
                continue
            if is_owned(live, queue.metadata.uid):
                found[kind.kind] = live
            else:
                foreign.append((kind, live))
        if foreign:
            raise ForeignObjectError(queue, foreign)
        if ending := [live for live in found.values() if is_ending(live)]:
            raise EndingChildError(ending)
        return found

    async def _apply(
        self,
        key: Key,
        queue: TaskQueueResource,
        wanted: Mapping[str, Child],
        live: Mapping[str, Object],
        spared: dict[str, ApplyError],
    ) -> None:
        """Write the children that differ: all of them, or none when the API server would refuse one."""
        replicas = 0 if DEPLOYMENT in live else self._first_replicas(key, queue)
        changes = [
            change
            for kind in KINDS
            if kind.kind in wanted
            and kind.kind not in spared
            and not self._corrections.is_in_line(
                key, change := Change(kind, wanted[kind.kind], live.get(kind.kind), replicas)
            )
        ]
        rehearsed: list[tuple[Change, Object | None]] = []
        for change in changes:
            with _sparing(change.kind, spared):
                rehearsed.append((change, await applying.rehearse(change, self._cluster)))
        due = [(change, then) for change, then in rehearsed if not self._corrections.is_unchanged(key, change, then)]
        if (fleet := self._loops.fleet(key)) is not None:
            fleet.make_way(wanted=any(_is_rollout(change, then) for change, then in due))
        for change, then in due:
            with _sparing(change.kind, spared):
                written = await applying.write(change, then, self._cluster)
                self._corrections.written(key, change, written)
                logger.info("%s/%s: %s %s", *key, "created" if change.live is None else "applied", change.kind.kind)

    def _first_replicas(self, key: Key, queue: TaskQueueResource) -> int:
        """The number with which a Deployment is made.

        One that is made again has as many as there are: it adopts the pods of one that was deleted without them, and
        with fewer it would take busy ones at once. The status alone does not tell them: a Deployment that is ending
        may already have lost its pods when the status was written.
        """
        autoscaler = queue.spec.autoscaler
        asked = autoscaler.min_replicas
        if autoscaler.mode == "Disabled":
            asked = 1 if queue.spec.replicas is None else queue.spec.replicas
        before = self._status.current(key).get("replicas")
        if before is not None:  # else this TaskQueue has had no Deployment
            left = self._store.adoptable_pods(key[0], selector(queue))
            before = min(max(int(before), left), max(asked, autoscaler.max_replicas))
        return max(before or 0, 0 if queue.spec.suspend else asked)

    async def _remove(
        self, key: Key, queue: TaskQueueResource, wanted: Mapping[str, Child], spared: dict[str, ApplyError]
    ) -> None:
        """Delete the children that this TaskQueue owns and no longer has.

        One that is not there is not asked for again, unless the watch shows it: a backup may bring one back.
        """
        uid = queue.metadata.uid
        absent = self._absent.setdefault(key, set())
        absent -= {(uid, kind) for kind in wanted}
        for kind in KINDS:
            shown = self._store.children[kind.kind].get(key) is not None
            if kind.kind in wanted or ((uid, kind.kind) in absent and not shown):
                continue
            with _sparing(kind, spared):
                live = await find_child(kind, key, queue, self._store, self._cluster)
                if live is None or not is_owned(live, uid):
                    absent.add((uid, kind.kind))
                elif not is_ending(live):
                    metadata = live["metadata"]
                    await self._cluster.delete(kind.api_version, kind.kind, key[0], metadata["name"], metadata["uid"])
                    logger.info("%s/%s: removed its %s", *key, kind.kind)

    async def _succeed(self, key: Key, queue: TaskQueueResource) -> None:
        if self._status.relent(key):
            self._loops.wake(key)
        generation = queue.metadata.generation
        told = [replace(one, generation=generation) for one in (_spec_valid(queue), self._reconciled(key))]
        await self._status.write(key, {"observedGeneration": generation}, told)

    def _reconciled(self, key: Key) -> Condition:
        if quarrels := self._corrections.quarrels(key):
            return Condition("Reconciled", False, "DriftNotCorrected", "; ".join(quarrels))
        message = "every child is as the spec wants it"
        if changes := ", ".join(self._corrections.changes(key)):
            message += f", but for what the cluster changes when it is written: {changes}"
        return Condition("Reconciled", True, "Applied", message)

    async def _refuse(self, key: Key, generation: int | None, refusal: ReconcileRefusal) -> float:
        """Tell why the children are not in line. The scaling loop goes on with the last version that was applied."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        if not refusal.passing or failures >= _PATIENCE:
            await self._status.insist(key, [replace(one, generation=generation) for one in refusal.conditions()])
        if failures == 1:
            logger.warning("%s/%s: %s: %s", *key, refusal.reason, refusal.message)
        if refusal.after is not None:
            return refusal.after
        delay = min(RESYNC_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(failures, 10))
        return delay * (0.5 + random.random() / 2)


@contextlib.contextmanager
def _sparing(kind: ChildKind, spared: dict[str, ApplyError]) -> Generator[None]:
    """Keep the refusal of a child that stops no other child."""
    try:
        yield
    except (ApplyError, ApiError) as error:
        refused = error if isinstance(error, ApplyError) else ApplyError(kind, error)
        if not refused.spares_the_others:
            raise
        spared.setdefault(kind.kind, refused)


def _parsed(body: Object) -> TaskQueueResource:
    """The TaskQueue. `InvalidSpecError` names the first field that cannot be used."""
    try:
        queue = TaskQueueResource.model_validate({name: body[name] for name in ("metadata", "spec") if name in body})
        problem = not_supported(queue.spec) or next(map(str, check(queue.spec)), None)
    except pydantic.ValidationError as error:
        problem = problems(error)
    except ConfigurationError as error:
        problem = str(error)
    else:
        if problem is None:
            return queue
    raise InvalidSpecError(problem)


def _spec_valid(queue: TaskQueueResource) -> Condition:
    """Of a spec that was applied. An annotation that has no meaning stops nothing."""
    if told := "; ".join(misread(queue.metadata.annotations)):
        return Condition("SpecValid", False, "InvalidAnnotation", told)
    return Condition("SpecValid", True, "Valid", "every field was understood")


def _built(queue: TaskQueueResource, digests: Mapping[str, str]) -> dict[str, Child]:
    """The children that the spec wants, by kind. `spec.worker.template` is the only field without a schema."""
    try:
        built = {kind.kind: kind.build(queue, digests) for kind in KINDS}
    except Exception as error:
        raise InvalidSpecError(
            f"spec.worker.template: it cannot be merged over the generated one ({type(error).__name__}: {error})"
        ) from None
    return {kind: child for kind, child in built.items() if child is not None}


def _is_rollout(change: Change, rehearsed: Object | None) -> bool:
    """Whether it replaces the pods of an existing Deployment."""
    if change.live is None or not change.kind.scaled:
        return False
    return rehearsed is None or bool(rehearsed["spec"]["template"] != change.live["spec"]["template"])


def _is_ending(error: Exception) -> bool:
    answer = error.error if isinstance(error, applying.ApplyError) else error
    return isinstance(answer, ApiError) and answer.status == 403 and "being terminated" in str(answer)
