"""The secrets that TaskQueues name: one copy for all that name one, read again every 20 s or sooner.

A secret is read by its name only; the operator lists and watches none. Reads after the first are off the reconcile
path, and a change wakes the TaskQueues that use the secret.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from taskfleet import showing
from taskfleet.cancellation import end

from ..api.kubernetes_api import KubernetesApi
from ..store.cluster_store import Key

logger = showing.logger("taskfleet.operator")

_REFRESH_SECONDS, _MISSING_SECONDS = 20.0, 5.0
_SPREAD = 0.25  # of that time, so that a thousand secrets are not read at one moment

Place = tuple[str, str]  # namespace, name


@dataclass(frozen=True)
class Secret:
    """`data` is as the API server has it: each value in base64."""

    data: Mapping[str, str] = field(repr=False)


@dataclass(eq=False)
class _Entry:
    secret: Secret | None = None
    is_known: bool = False
    users: set[Key] = field(default_factory=set[Key])
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    following: asyncio.Task[None] | None = None


class SecretCache:
    """`changed(key)` is called for each TaskQueue that uses a secret with other content than before."""

    def __init__(
        self, cluster: KubernetesApi, changed: Callable[[Key], None], seconds: float = _REFRESH_SECONDS
    ) -> None:
        self._cluster = cluster
        self._changed = changed
        self._seconds = seconds
        self._entries: dict[Place, _Entry] = {}

    async def get(self, key: Key, name: str) -> Secret | None:
        """The secret of this name in the namespace of the TaskQueue, which uses it from now on; None: there is none."""
        place = (key[0], name)
        entry = self._entries.setdefault(place, _Entry())
        entry.users.add(key)
        async with entry.reading:
            if not entry.is_known:
                entry.secret, entry.is_known = await self._read(place), True
        if entry.following is None and self._entries.get(place) is entry:
            entry.following = asyncio.create_task(self._follow(place, entry))
        return entry.secret

    def keep(self, key: Key, names: Collection[str]) -> None:
        """The TaskQueue uses these secrets and no others."""
        for place, entry in list(self._entries.items()):
            if key in entry.users and place[1] not in names:
                entry.users.discard(key)
                if not entry.users:
                    del self._entries[place]
                    if entry.following is not None:
                        entry.following.cancel()

    async def close(self) -> None:
        entries, self._entries = self._entries, {}
        await end([entry.following for entry in entries.values() if entry.following is not None])

    async def _follow(self, place: Place, entry: _Entry) -> None:
        while True:
            seconds = min(self._seconds, _MISSING_SECONDS) if entry.secret is None else self._seconds
            await asyncio.sleep(seconds * random.uniform(1 - _SPREAD, 1))
            try:
                seen = await self._read(place)
            except Exception as error:  # what was read last still counts
                logger.debug("secret %s/%s cannot be read: %s", *place, error)
                continue
            if seen != entry.secret:
                entry.secret = seen
                for key in tuple(entry.users):
                    self._changed(key)

    async def _read(self, place: Place) -> Secret | None:
        found = await self._cluster.get("v1", "Secret", *place)
        return None if found is None else Secret(dict(found.get("data") or {}))
