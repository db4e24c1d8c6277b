"""The workflow around a task, walked in both directions with a bounded number of calls."""

from __future__ import annotations

from collections import deque
from itertools import islice

from taskfleet.errors import TaskNotFoundError
from taskfleet.handles import TaskHandle
from taskfleet.inspection.reading import Reader
from taskfleet.inspection.task_info import TaskInfo
from taskfleet.protocol.partitions import Partition
from taskfleet.queue import TaskQueue
from taskfleet.redis.broker import RedisBroker
from taskfleet_dashboard import text
from taskfleet_dashboard.answers.tasks import GraphAnswer, GraphEdge, GraphNode

_MOST_NODES = 60
_MOST_EXPANDED = 25  # tasks whose neighbours are looked for: each costs some calls


class _Walk:
    def __init__(self, queue: TaskQueue, broker: RedisBroker) -> None:
        self._queue = queue
        self._broker = broker
        self._reader = Reader(queue.sessions)
        self.nodes: dict[str, GraphNode] = {}
        self.edges: dict[tuple[str, str], GraphEdge] = {}
        self.whole = True
        self._ahead: deque[str] = deque()
        self._places: dict[str, Partition] = {}

    async def run(self, task_id: str) -> None:
        self._ahead.append(task_id)
        expanded = 0
        while self._ahead:
            if expanded >= _MOST_EXPANDED or len(self.nodes) >= _MOST_NODES:
                self.whole = False
                break
            expanded += 1
            await self._expand(self._ahead.popleft())
        for each in islice(self._ahead, max(0, _MOST_NODES - len(self.nodes))):
            self._node(each, None, "unknown")

    async def _expand(self, task_id: str) -> None:
        partition = self._places.get(task_id)
        if partition is None:
            partition = await TaskHandle[object](self._queue.sessions, task_id, None).locate()
        info = await self._reader.one(partition, task_id) if partition is not None else None
        if partition is None or info is None:
            self._node(task_id, None, "unknown")
            return
        self._node(task_id, info, info.state)
        for other in info.waits_for:
            self._edge(other, task_id, None, "waits")
        if info.state == "blocked" and not info.waits_for:
            self.whole = False  # it waits for tasks that were not found
        if info.parent:
            self._edge(info.parent, task_id, None, "sent")
        following, all_of_them = await self._broker.waiting_for(partition, task_id)
        self.whole = self.whole and all_of_them
        for place, other, position in following[:_MOST_NODES]:
            self._places.setdefault(other, place)
            self._edge(task_id, other, position, "waits")
        if info.state in ("succeeded", "cancelled", "expired"):
            self.whole = False  # nobody keeps who waited for a task that has ended

    def _node(self, task_id: str, info: TaskInfo | None, state: str) -> None:
        if info is None and task_id in self.nodes:
            return
        self.nodes[task_id] = GraphNode(
            id=text.whole(task_id),
            task=text.name(info.task) if info is not None else None,
            queue=info.queue if info is not None else None,
            state=text.line(state),
        )

    def _edge(self, first: str, then: str, position: int | None, kind: str) -> None:
        known = self.edges.get((first, then))
        if known is None or known.position is None:
            edge = {"from": text.whole(first), "to": text.whole(then), "position": position, "kind": kind}
            self.edges[first, then] = GraphEdge.model_validate(edge)
        for each in (first, then):
            if each not in self.nodes and each not in self._ahead:
                self._ahead.append(each)


async def graph(queue: TaskQueue, broker: RedisBroker, task_id: str) -> GraphAnswer:
    """The workflow around a task. Errors: `TaskNotFoundError`."""
    walk = _Walk(queue, broker)
    await walk.run(task_id)
    if len(walk.nodes) == 1 and walk.nodes.get(task_id) is not None and walk.nodes[task_id].state == "unknown":
        raise TaskNotFoundError(
            f"task {task_id} is not known: it never was here, was purged, or its result has expired"
        )
    edges = [edge for (first, then), edge in walk.edges.items() if first in walk.nodes and then in walk.nodes]
    return GraphAnswer(nodes=list(walk.nodes.values()), edges=edges, whole=walk.whole)
