"""Writes of status: only what differs from what the cluster has, and one writer at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taskfleet.cancellation import end

from ...scaling.clock import ScalingClock
from ..api.kubernetes_api import ApiError, KubernetesApi
from ..store.cluster_store import ClusterStore, Key, Object, is_before
from . import conditions
from .conditions import Condition
from .events import EventPoster, warnings_of
from .status_fields import weighty

Status = Mapping[str, Any]


@dataclass
class _Record:
    """What the status of one TaskQueue should say, and the last write of it.

    `got` is what the API server made of `asked`: a definition of another version drops fields that it does not know.
    """

    uid: str | None
    events: EventPoster
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    wanted: dict[str, Condition] = field(default_factory=dict[str, Condition])
    insisted: dict[str, Condition] = field(default_factory=dict[str, Condition])
    asked: dict[str, Any] | None = None
    got: dict[str, Any] = field(default_factory=dict[str, Any])
    version: str = ""

    def current(self, body: Object) -> Status:
        """The status as last written, until the watch has shown that write or a later one."""
        if self.asked is not None and is_before(body["metadata"].get("resourceVersion", ""), self.version):
            return self.got
        status: Status = body.get("status") or {}
        return status


class StatusWriter:
    """Merges fields and conditions into a TaskQueue's status. A condition that becomes bad is a Warning Event, too.

    It remembers what each writer said last, by the TaskQueue's uid. So a status that somebody has edited is put right
    by the next write, of whatever field, and a TaskQueue that is made again under its name starts from nothing.
    """

    def __init__(self, cluster: KubernetesApi, store: ClusterStore, clock: ScalingClock | None = None) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock or ScalingClock()
        self._records: dict[Key, _Record] = {}

    def current(self, key: Key) -> Status:
        """The status as last written, else as the watch has shown it."""
        body = self._store.queues.get(key)
        return {} if body is None else self._record(key, body).current(body)

    async def write(
        self,
        key: Key,
        fields: Mapping[str, Any],
        wanted: Iterable[Condition] = (),
        *,
        uid: str | None = None,
        patient: bool | None = None,
    ) -> bool | None:
        """Write these fields and conditions. No request is sent when they are unchanged.

        Nothing is written for another TaskQueue than that of `uid`, if given. With `patient` no request is sent either
        for a change that may wait (`status_fields.weighty`), and the result is None; a status that somebody has edited
        does not wait. Without a value, a caller is patient that says what it has said before: otherwise each resync of
        the reconciler would send the figures that wait. Otherwise the result is whether a request was sent. A field
        that is None is removed.
        """
        body = self._store.queues.get(key)
        if body is None or uid not in (None, body["metadata"].get("uid")):
            return False
        record = self._record(key, body)
        told = {condition.type: condition for condition in _of_a_generation(wanted, body)}
        if patient is None:
            patient = fields.items() <= record.fields.items() and told.items() <= record.wanted.items()
        record.fields |= fields
        record.wanted |= told
        async with record.lock:
            return await self._write(key, record, patient=patient)

    async def _write(self, key: Key, record: _Record, *, patient: bool) -> bool | None:
        body = self._store.queues.get(key)
        if body is None or body["metadata"].get("uid") != record.uid:
            return False
        before = dict(record.current(body))
        after = {name: value for name, value in (before | record.fields).items() if value is not None}
        told = record.wanted | record.insisted
        generation = body["metadata"].get("generation", 0)
        now = self._clock.wall(self._clock.now())
        after["conditions"] = conditions.merge(before.get("conditions", ()), told.values(), generation, now)
        if after == before or (after == record.asked and before == record.got):
            return False
        edited = record.asked is not None and before != record.got  # by somebody else: nobody waits for that
        if patient and not edited and weighty(before) == weighty(after):
            return None
        try:
            written = await self._cluster.patch_status(*key, merge_patch(before, after))
        except ApiError as error:
            if error.status == 404:
                return False  # deleted in the meantime
            raise
        metadata = written["metadata"]
        if metadata.get("uid") == record.uid:
            record.asked, record.got = after, dict(written.get("status") or {})
            record.version = metadata.get("resourceVersion", "")
            for reason, message in warnings_of(before.get("conditions", ()), after["conditions"]):
                record.events.warn(reason, message)
        # Otherwise it has been made again under its name. What was written there is put right by its own first write.
        return True

    async def insist(self, key: Key, wanted: Iterable[Condition]) -> None:
        """Write these conditions. Until `relent`, they replace those of the same type from other writers."""
        body = self._store.queues.get(key)
        if body is not None:
            record = self._record(key, body)
            insisted = {condition.type: condition for condition in _of_a_generation(wanted, body)}
            news, record.insisted = insisted != record.insisted, insisted
            await self.write(key, {}, patient=False if news else None)

    def relent(self, key: Key) -> bool:
        """End `insist`. Returns whether it was in effect."""
        record = self._records.get(key)
        if record is None or not record.insisted:
            return False
        record.insisted = {}
        return True

    def events(self, key: Key) -> EventPoster:
        """Posts the Events of the TaskQueue, and remembers them for as long as the TaskQueue exists."""
        body = self._store.queues.get(key)
        return self._poster(key, None) if body is None else self._record(key, body).events

    def forget(self, key: Key) -> None:
        self._records.pop(key, None)

    async def close(self) -> None:
        """End what is on its way: Events that wait for a busy API server."""
        await end([task for record in self._records.values() for task in record.events.close()])

    def _poster(self, key: Key, uid: str | None) -> EventPoster:
        return EventPoster(key, uid, self._cluster, self._store, self._clock)

    def _record(self, key: Key, body: Object) -> _Record:
        uid = body["metadata"].get("uid")
        record = self._records.get(key)
        if record is None or record.uid != uid:
            record = self._records[key] = _Record(uid, self._poster(key, uid))
        return record


def _of_a_generation(wanted: Iterable[Condition], body: Object) -> Iterator[Condition]:
    """The conditions with the generation that they are about, which is not that of a later write."""
    newest = body["metadata"].get("generation", 0)
    return (one if one.generation is not None else replace(one, generation=newest) for one in wanted)


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) from one to the other: null for removed fields, lists whole."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if nested := merge_patch(old, value):
                patch[name] = nested
        elif old != value:
            patch[name] = value
    return patch
