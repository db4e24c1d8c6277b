"""Sends a workflow, in one call where possible; otherwise no task of it runs before all of it is sent."""

from __future__ import annotations

import contextlib
import functools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskfleet import ids
from taskfleet.application import Application
from taskfleet.backoff import until_room
from taskfleet.errors import TaskNotFoundError, TaskQueueError
from taskfleet.handles import GroupHandle, HandleFactory, TaskHandle
from taskfleet.producer.item_encoder import ItemEncoder, parent_setting
from taskfleet.protocol import bounds, call_settings, result_record
from taskfleet.protocol.broker import Broker
from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.protocol.item import ITEM_EXTRAS, MOST_EDGES, Edge, Extras, Item, Waits
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.signal import Signal
from taskfleet.workflows import Node, WorkflowPlan

# A workflow that is sent in several calls: its tasks are dropped when its sender has not confirmed them by then.
_CONFIRMED_WITHIN_MS = 600_000
_MOST_TRIES = 20


@dataclass(slots=True)
class Route:
    """The partition of each node of a workflow, and the tasks that stand for nodes that are not sent."""

    partitions: dict[Node, Partition]
    holders: dict[Node, str] = field(default_factory=dict[Node, str])  # another task has its unique key
    twins: dict[Node, Node] = field(default_factory=dict[Node, Node])  # another node of this workflow has

    def sends(self, node: Node) -> bool:
        return node not in self.holders and node not in self.twins

    def id_of(self, node: Node) -> str:
        """The id of the task that stands for a node."""
        node = self.twins.get(node, node)
        return self.holders.get(node, node.id)


class WorkflowSender:
    """Sends workflows for one application, on one event loop."""

    def __init__(self, application: Application, broker: Broker, encoder: ItemEncoder, handle: HandleFactory) -> None:
        self._application = application
        self._broker = broker
        self._encoder = encoder
        self._handle = handle

    async def send(self, plan: WorkflowPlan) -> TaskHandle[Any] | GroupHandle:
        """Send all nodes of a workflow, waiting ones first, so that no task ends before the tasks after it are known.

        Another task that has the unique key of a node, and keeps it, stands for that node.
        """
        for _ in range(_MOST_TRIES):
            route = await self._route(plan)
            attempt = _Attempt(self._application, self._broker, self._encoder, self._handle, plan, route)
            try:
                if await attempt.send():
                    return self._end(plan, route)
            except BaseException:
                await attempt.take_back()
                raise
            # Another sender got a key first, or the task that had it has just ended, so the route is made again.
            await attempt.take_back()
            for node in plan.nodes:
                node.id = ids.new_id()
        raise TaskQueueError("a workflow: its unique keys change hands faster than it can be sent; try again")

    async def _route(self, plan: WorkflowPlan) -> Route:
        route = Route({node: self._encoder.partition_of(node.message, node.id) for node in plan.nodes})
        first: dict[tuple[Partition, str], Node] = {}  # of each key
        for node in plan.nodes:
            key = node.message.unique_key
            if key is None:
                continue
            partition = route.partitions[node]
            before = first.get((partition, key))
            if before is not None and node.keeps_existing:
                route.twins[node] = before
                continue
            first[partition, key] = node
            if node.keeps_existing and (holder := await self._broker.holder(partition, key)) is not None:
                route.holders[node] = holder
        return route

    def _end(self, plan: WorkflowPlan, route: Route) -> TaskHandle[Any] | GroupHandle:
        handles = [
            self._handle(route.id_of(node), route.partitions[node], node.message.task.signature.result)
            for node in plan.ends
        ]
        return handles[0] if plan.shape == 1 else GroupHandle(handles, plan.shape)


class _Attempt:
    """One attempt to send a workflow as a whole.

    A node has an edge for each node that waits for it. One call adds at most `MOST_EDGES` of them with their task: a
    node with more is wide, and the rest is linked afterwards. A wide node that could start at once is gated: it waits
    for a signal that is given when all its edges are linked.
    """

    def __init__(
        self,
        application: Application,
        broker: Broker,
        encoder: ItemEncoder,
        handle: HandleFactory,
        plan: WorkflowPlan,
        route: Route,
    ) -> None:
        self._application = application
        self._broker = broker
        self._encoder = encoder
        self._handle = handle
        self._plan = plan
        self._route = route
        self._parent = parent_setting()
        self._seals = application.seal.configured
        self._items: dict[Node, Item] = {}
        self._sent: list[Node] = []
        self._edges: dict[Node, list[Edge]] = defaultdict(list)
        for node in plan.nodes:
            for position, before in enumerate(node.after):
                edge = Edge(route.partitions[node], node.id, position, carries=position < node.carried)
                self._edges[route.twins.get(before, before)].append(edge)
        own = [node for node in plan.nodes if route.sends(node)]
        self._blocked = [node for node in own if node.waits]
        self._starts = [node for node in own if not node.waits]
        self._wide = [node for node in own if len(self._edges[node]) > MOST_EDGES]
        self._gated = [node for node in self._wide if not node.waits]

    async def send(self) -> bool:
        """Send the whole workflow. False if a task that was to stand for a node no longer does."""
        # All nodes are encoded before the first is sent, so that a bad argument has no effect.
        self._items = await self._encoder.by_the_clock(lambda: {node: self._encode(node) for node in self._plan.nodes})
        if self._fits_one_call():
            await self._enqueue([*self._blocked, *self._starts])
            return True
        for node in self._blocked:
            extras = self._items[node][ITEM_EXTRAS]
            assert extras is not None
            assert extras.waits is not None
            extras.waits = extras.waits._replace(unconfirmed_ms=_CONFIRMED_WITHIN_MS)
        return await self._send_blocked() and await self._send_starts()

    def _fits_one_call(self) -> bool:
        items = [self._items[node] for node in (*self._blocked, *self._starts)]
        parts = [*bounds.windows(items, bounds.item_bytes)]
        return (
            len(set(self._route.partitions.values())) == 1
            and len(parts) <= 1
            and sum(size for _, _, size in parts) <= bounds.SURE_BYTES
            and not self._wide
            and not any(node.handles or node.message.unique_key for node in self._plan.nodes)
        )

    async def _send_blocked(self) -> bool:
        """Send the nodes that wait, and link them to tasks of theirs that are in Redis already."""
        if await self._enqueue(self._blocked):
            return False
        for node in self._blocked:
            for position, handle in enumerate(node.handles, start=len(node.after)):
                await self._link_to_handle(node, handle, position)
        for node, holder in self._route.holders.items():
            if not await self._link(node, holder, self._edges[node]):
                return False
        for node in self._wide:
            if node.waits:
                await self._link(node, node.id, self._edges[node][MOST_EDGES:])
        return True

    async def _send_starts(self) -> bool:
        """Send the nodes that wait for no other, and confirm the workflow.

        Nodes that another task may keep out by their unique key go first, while none of the others has run.
        """
        if await self._enqueue([node for node in self._starts if _may_be_kept_out(node)]):
            return False
        await self._enqueue([node for node in self._starts if not _may_be_kept_out(node)])
        for node in self._gated:
            await self._link(node, node.id, self._edges[node][MOST_EDGES:])
        unconfirmed: dict[Partition, list[str]] = defaultdict(list)
        for node in self._blocked:
            unconfirmed[self._route.partitions[node]].append(node.id)
        for partition, task_ids in unconfirmed.items():
            await self._broker.confirm(partition, task_ids)
        # A gate needs no confirmation but its opening: when this sender dies here, its task is dropped, and so are
        # those that wait for it.
        for node in self._gated:
            signal = Signal(self._route.partitions[node], node.id, 0, node.id, result_record.SUCCEEDED, b"")
            await self._broker.signal(signal)
        return True

    async def take_back(self) -> None:
        """Cancel the nodes that were sent."""
        for node in self._sent:
            with contextlib.suppress(TaskQueueError):
                await self._handle(node.id, self._route.partitions[node]).cancel()

    def _encode(self, node: Node) -> Item:
        settings: dict[str, Any] = {} if self._parent is None else self._parent.copy()
        if node.carried:
            settings[call_settings.INPUT_SHAPE] = node.shape
            if self._seals:
                # The ids of the tasks whose results these are, so that the result of another task is refused.
                sources = [[before.message.queue, self._route.id_of(before)] for before in node.after[: node.carried]]
                settings[call_settings.INPUT_SOURCES] = sources
        if node.waited_for:
            settings[call_settings.RESULT_IS_TAKEN] = 1
        task_id, envelope, delay_ms, eta_ms, extras = node.message.encode(
            self._encoder.max_payload_bytes,
            self._encoder.seal,
            task_id=node.id,
            behind_result=node.carried > 0,
            more_settings=settings,
            clock=self._encoder.now_ms,
        )
        edges = self._edges[node]
        if edges or node.waits:
            extras = extras or Extras()
            extras.edges = edges[:MOST_EDGES]
            if node.waits:
                extras.waits = Waits(len(node.after) + len(node.handles), node.carried)
            elif len(edges) > MOST_EDGES:
                extras.waits = Waits(1, 0, _CONFIRMED_WITHIN_MS)
        return task_id, envelope, delay_ms, eta_ms, extras

    async def _enqueue(self, nodes: Sequence[Node]) -> bool:
        """Add nodes. True if one was not added because another task has its unique key."""
        by_partition: dict[Partition, list[Node]] = defaultdict(list)
        for node in nodes:
            by_partition[self._route.partitions[node]].append(node)
        refused = False
        for partition, group in by_partition.items():
            items = [self._items[node] for node in group]
            max_length = self._application.options_of(queue_of(partition)).max_length
            wait = max(node.message.options.wait_for_room for node in group)
            self._sent.extend(group)
            send = functools.partial(self._broker.enqueue, partition, items, max_length=max_length)
            refused = bool(await until_room(wait, send)) or refused
        return refused

    async def _link(self, node: Node, task_id: str, edges: Sequence[Edge]) -> bool:
        """Let tasks wait for the task that is, or stands for, `node`; false when it has just ended."""
        for start in range(0, len(edges), MOST_EDGES):
            some = edges[start : start + MOST_EDGES]
            state, _ = await self._broker.link(self._route.partitions[node], task_id, some)
            if state != "linked":
                return False
        return True

    async def _link_to_handle(self, node: Node, handle: TaskHandle[Any], position: int) -> None:
        """Let a node wait for a task that was sent earlier."""
        partition = self._route.partitions[node]
        # Located with the connections of this loop, since the handle may belong to another TaskQueue.
        other = handle.partition or await self._handle(handle.id, None).locate()
        state, record = "unknown", b""
        if other is not None:
            edge = Edge(partition, node.id, position, carries=False)
            state, record = await self._broker.link(other, handle.id, [edge])
        if other is None or state == "unknown":
            raise TaskNotFoundError(
                f"after: task {handle.id} is not known: it never was, or it has ended without a result that is kept"
            )
        if state == "linked":
            return
        # The task has ended already, so this sender gives the signal that its end would have given.
        queue, seal = queue_of(other), self._application.seal
        if state == "ended":
            state, reason = result_record.unpack_end(record, queue=queue, task_id=handle.id, seal=seal)
            record = b"" if state == result_record.SUCCEEDED else str(reason).encode()
        else:
            letter = DeadLetter.of_packed(handle.id, record, queue=queue, seal=seal)
            state, record = letter.state, letter.error.encode()
        await self._broker.signal(Signal(partition, node.id, position, handle.id, state, record))
        await self._broker.relay(partition)


def _may_be_kept_out(node: Node) -> bool:
    return node.keeps_existing and node.message.unique_key is not None
