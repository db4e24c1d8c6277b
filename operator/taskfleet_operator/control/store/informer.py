"""An informer: lists the objects of one kind, then watches them, and keeps the store equal to the cluster.

A list replaces what the store has. An object that vanished while there was no watch is then gone from the store too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from taskfleet import showing
from taskfleet.supervising import supervise

from ...children import KINDS
from ...children.names import SELECTOR
from ...resource.taskqueue import API_VERSION
from ..api.kubernetes_api import ApiError, KubernetesApi, UnreachableError
from .cluster_store import POD, QUEUE, REPLICA_SET, ClusterStore, Key, Object
from .compacting import compacted

logger = showing.logger("taskfleet.operator")

Changed = Callable[[str, set[Key]], None]
"""Called with the kind of the objects that changed, and the TaskQueues that they concern."""

SILENCE_SECONDS = 75.0
"""The API server sends a bookmark every minute. A watch that shows nothing for longer is taken for dead."""

_WATCH_SECONDS = (240.0, 360.0)  # between these, so that the watches do not all end at once
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.2, 10.0
_GONE = 410  # the events since that resourceVersion are no longer there
_GOES_ON = (0, 401, 429, 500, 502, 503, 504)  # the watch may be opened again where it stopped


@dataclass(frozen=True)
class Watched:
    """The objects that an informer follows. `trimmed`: without `managedFields`, which are half of a small object.

    `spare`: the operator can do its work without seeing them; while it may not list them, it asks for each.
    """

    api_version: str
    kind: str
    selector: str = ""
    trimmed: bool = True
    spare: bool = False


class Informer:
    """Follows the objects of one kind in one namespace (None: in all)."""

    def __init__(
        self,
        api: KubernetesApi,
        store: ClusterStore,
        watched: Watched,
        namespace: str | None,
        changed: Changed,
        *,
        listed: Callable[[], None] = lambda: None,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.watched = watched
        self.namespace = namespace
        self.synced = False
        """Whether the objects have been listed once."""
        self.problem = ""
        """Why its objects could not be listed; empty when they could."""
        self.lists = self.watches = 0
        self.last_step = time.monotonic()
        """When it last did anything: a request, an event, a failure."""
        self.last_answer = time.monotonic()
        """When the API server last answered it: with a page, an event, a bookmark, the end of a watch, or a refusal.

        A refused login does not count: nothing but other credentials ends it.
        """
        self._api = api
        self._store = store
        self._changed = changed
        self._listed = listed
        self._silence_seconds = silence_seconds
        self._version = ""  # the resourceVersion that the store is at; empty: list first
        self._forbidden = False
        self._failures = 0

    def __str__(self) -> str:
        return f"the informer of {self.watched.kind}s in {self.namespace or 'all namespaces'}"

    @property
    def settled(self) -> bool:
        """Whether nobody needs to wait for it."""
        return self.synced or (self.watched.spare and self._forbidden)

    async def run(self) -> None:
        await supervise(str(self), self._follow)

    async def _follow(self) -> None:
        self._version = ""
        while True:
            self.last_step = time.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except (ApiError, ValueError) as error:
                await self._recover(error)

    async def _list(self) -> None:
        watched, version = self.watched, ""
        bodies: list[Object] = []
        async for page, version in self._api.list_pages(  # noqa: B007
            watched.api_version, watched.kind, self.namespace, watched.selector
        ):
            self._answered()
            bodies += map(self._kept, page)
        self._tell(self._store.replace(watched.kind, self.namespace, bodies))
        self._version, self.synced, self.problem = version, True, ""
        self.lists += 1
        self._listed()

    async def _watch(self) -> None:
        watched, began = self.watched, time.monotonic()
        self.watches += 1
        events = self._api.watch(
            watched.api_version,
            watched.kind,
            self.namespace,
            watched.selector,
            since=self._version,
            seconds=random.uniform(*_WATCH_SECONDS),
            silence_seconds=self._silence_seconds,
        )
        try:
            async for event in events:
                self._answered()
                self._failures = 0
                self._take(event["type"], event["object"])
        finally:
            await events.aclose()
        self._answered()
        if time.monotonic() - began < 1.0:
            raise UnreachableError(TimeoutError("the watch ended at once"))
        self._failures = 0

    def _take(self, kind_of_event: str, body: dict[str, Any]) -> None:
        if kind_of_event == "ERROR":
            raise ApiError(body.get("code", 500), str(body.get("message")))
        if kind_of_event == "DELETED":
            self._tell(self._store.remove(self.watched.kind, body))
        elif kind_of_event != "BOOKMARK":
            self._tell(self._store.put(self.watched.kind, self._kept(body)))
        self._version = body["metadata"]["resourceVersion"]

    def _kept(self, body: dict[str, Any]) -> Object:
        if self.watched.trimmed:
            body["metadata"].pop("managedFields", None)
        return compacted(body)

    def _tell(self, keys: set[Key]) -> None:
        if keys:
            self._changed(self.watched.kind, keys)

    def _answered(self) -> None:
        self.last_step = self.last_answer = time.monotonic()

    async def _recover(self, error: Exception) -> None:
        self.last_step = time.monotonic()
        status = error.status if isinstance(error, ApiError) else None
        if status not in (None, 0, 401):
            self._answered()
        if status not in _GOES_ON:
            self._version = ""  # the events since then cannot be had, or not be understood
        if not self.synced:
            self.problem = f"{self}: {_words(error, self.watched)}"
            self._forbidden = status == 403
            self._listed()
        self._failures += 1
        pause = min(_LAST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 10))
        pause = max(pause * (0.5 + random.random() / 2), getattr(error, "retry_after", 0.0))
        if self._failures & (self._failures - 1) == 0:  # the first, the second, the fourth, …
            expired = status == _GONE
            log = logger.info if expired or self._failures == 1 else logger.warning
            log("%s: %s (again in %.1f s)", self, _words(error, self.watched), pause)
        await asyncio.sleep(pause)


class Informers:
    """The informers of all kinds in all served namespaces."""

    def __init__(
        self,
        api: KubernetesApi,
        store: ClusterStore,
        changed: Changed,
        *,
        namespaces: Sequence[str] = (),
        queue_selector: str = "",
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._store = store
        self._synced = asyncio.Event()
        self.all = [
            Informer(api, store, watched, namespace, changed, listed=self._listed, silence_seconds=silence_seconds)
            for watched in watched_kinds(queue_selector)
            for namespace in namespaces or (None,)
        ]

    async def run(self) -> None:
        await asyncio.gather(*(informer.run() for informer in self.all))

    async def synced(self) -> None:
        """Wait until every informer has listed its objects, but those that may not and need not."""
        await self._synced.wait()

    def stuck(self) -> tuple[str, float]:
        """The informer that has been idle for longest, and for how many seconds: above two minutes, it hangs."""
        idle = min(self.all, key=lambda informer: informer.last_step)
        return str(idle), time.monotonic() - idle.last_step

    def silent(self) -> tuple[str, float]:
        """The informer that the API server has not answered for longest, and for how many seconds."""
        unheard = min(self.all, key=lambda informer: informer.last_answer)
        return str(unheard), time.monotonic() - unheard.last_answer

    @property
    def problem(self) -> str:
        """Why not all objects could be listed yet; empty when nothing is known to be wrong."""
        return "; ".join(informer.problem for informer in self.all if not informer.settled and informer.problem)

    def _listed(self) -> None:
        if all(informer.settled for informer in self.all):
            self._store.synced = True
            self._synced.set()


def watched_kinds(queue_selector: str = "") -> list[Watched]:
    """All that the operator follows. `queue_selector` is a label selector: only these TaskQueues are served."""
    return [
        Watched(API_VERSION, QUEUE, queue_selector),
        # The reconciler compares a child with what each manager owns of it.
        *(Watched(kind.api_version, kind.kind, SELECTOR, trimmed=False, spare=kind.spare) for kind in KINDS),
        Watched("apps/v1", REPLICA_SET, SELECTOR),
        Watched("v1", POD, SELECTOR),
    ]


def _words(error: Exception, watched: Watched) -> str:
    if getattr(error, "status", 0) == 404 and watched.kind == QUEUE:
        return f"the API server has no definition of {API_VERSION} TaskQueue; apply crds/taskqueue.yaml"
    return str(error) or type(error).__name__
