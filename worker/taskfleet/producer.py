"""From messages to Redis: single calls that travel together, bulk, and workflows."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taskfleet import background, ids
from taskfleet.application import Application
from taskfleet.backoff import backoff_seconds
from taskfleet.bulk import KEPT_BYTES, Bulk
from taskfleet.errors import (
    BulkEnqueueError,
    ConfigurationError,
    QueueFullError,
    SerializationError,
    TaskNotFoundError,
    TaskQueueError,
)
from taskfleet.handles import GroupHandle, HandleFactory, TaskHandle
from taskfleet.protocol import bounds, call_settings, dead_letter, result_record
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.broker import Broker
from taskfleet.protocol.clock import FRESH_SECONDS, ClockUnknownError
from taskfleet.protocol.item import ITEM_ENVELOPE, ITEM_EXTRAS, ITEM_ID, MOST_EDGES, Edge, Extras, Item, Waits
from taskfleet.protocol.partitions import queue_of, spread
from taskfleet.protocol.signal import Signal
from taskfleet.tasks.message import Message
from taskfleet.workflows import Node, WorkflowPlan

T = TypeVar("T")

# A workflow in several calls: what stands in Redis of it is dropped when its sender has not finished by then.
_WHOLE_WITHIN_MS = 600_000
_MOST_TRIES = 20


@dataclass(slots=True)
class Route:
    """Where the nodes of a workflow go, and what stands for those that are not sent."""

    places: dict[Node, str]
    holders: dict[Node, str] = field(default_factory=dict)  # another task has its unique key
    twins: dict[Node, Node] = field(default_factory=dict)  # another node of this workflow has
    sent: list[Node] = field(default_factory=list)

    def id_of(self, node: Node) -> str:
        node = self.twins.get(node, node)
        return self.holders.get(node, node.id)


class Producer:
    """Sends the tasks of one application, on one event loop."""

    def __init__(self, application: Application, broker: Broker, handle: HandleFactory) -> None:
        self._application = application
        self._broker = broker
        self._handle = handle
        self._sealer = application.seal if application.seal.writes else None
        self._outgoing: dict[str, list[tuple[Item, asyncio.Future[str]]]] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._busy: set[str] = set()
        self._clock = functools.partial(self._broker.clock.now_ms, within=FRESH_SECONDS)

    async def _by_the_clock(self, encode: Callable[[], T]) -> T:
        """Encode; what counts from now does so by the clock of Redis, which is asked when it is not known."""
        while True:
            try:
                return encode()
            except ClockUnknownError as error:
                await self._broker.clock.ask(error.queue)

    def _place(self, message: Message[Any], task_id: str) -> str:
        """The partition that a task goes to."""
        name = message.queue
        partitions = self._application.options_of(name).partitions
        return name if partitions == 1 else spread(name, partitions, message.spread_key or task_id)

    async def one(self, message: Message[Any]) -> TaskHandle[Any]:
        """Send one message. Calls of one loop tick travel together."""
        try:
            item = message.encode(self._application.max_payload_bytes, self._sealer, clock=self._clock)
        except ClockUnknownError as error:
            await self._broker.clock.ask(error.queue)
            return await self.one(message)
        place = self._place(message, item[ITEM_ID])
        if message.options.wait_for_room:
            task_id = await _with_room(message.options.wait_for_room, lambda: self._send(place, item))
        else:
            task_id = await self._send(place, item)
        return self._handle(task_id, place, message.task.signature.result)

    async def _send(self, place: str, item: Item) -> str:
        """A call goes at once; those that come while it is under way gather, and go together when it is back."""
        if place in self._busy:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._outgoing.setdefault(place, []).append((item, future))
            return await future
        self._busy.add(place)
        try:
            max_length = self._application.options_of(place).max_length
            holders = await self._enqueue(place, (item,), max_length)
            return holders.get(0, item[ITEM_ID]) if holders else item[ITEM_ID]
        finally:
            if place in self._outgoing:
                self._senders[place] = background.start(self._send_outgoing(place))
            else:
                self._busy.discard(place)

    async def _enqueue(self, place: str, items: Sequence[Item], max_length: int) -> dict[int, str]:
        try:
            return await self._broker.enqueue(place, items, max_length=max_length)
        except TaskQueueError:
            raise
        except (TypeError, ValueError, OverflowError) as error:
            # Everything was checked before; what slipped through is still an error of ours, in one line.
            raise SerializationError(
                f"queue {queue_of(place)!r}: a task cannot be put into a message: {error}"
            ) from error

    async def _send_outgoing(self, place: str) -> None:
        try:
            while batch := self._outgoing.pop(place, None):
                max_length = self._application.options_of(place).max_length
                if max_length:
                    # One by one, so that a full queue refuses only what does not fit.
                    for pair in batch:
                        await self._send_batch(place, [pair], max_length)
                else:
                    for start, end, _ in bounds.windows(batch, _waiting_bytes):
                        await self._send_batch(place, batch[start:end], 0)
        finally:
            self._busy.discard(place)
            self._senders.pop(place, None)

    async def _send_batch(self, place: str, batch: Sequence[tuple[Item, asyncio.Future[str]]], max_length: int) -> None:
        try:
            holders = await self._enqueue(place, [item for item, _ in batch], max_length)
        except BaseException as error:
            if len(batch) > 1 and isinstance(error, SerializationError):
                # One of them cannot be put into a message, so nothing was sent: the others do not pay for that.
                for pair in batch:
                    await self._send_batch(place, [pair], max_length)
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for position, (item, future) in enumerate(batch):
                if not future.done():
                    future.set_result(holders.get(position, item[ITEM_ID]) if holders else item[ITEM_ID])

    async def many(self, messages: Sequence[Message[Any]], *, wait_for_room: float) -> list[TaskHandle[Any]]:
        """Send many messages in order, all or nothing per queue."""
        bulk, errors = await self._by_the_clock(lambda: self._encode_all(messages))
        places = bulk.places
        refused = {messages[index].queue for index, _ in errors}
        sending = asyncio.ensure_future(self._send_batches(bulk, refused, wait_for_room))
        try:
            handles: list[TaskHandle[Any]] = []
            if not errors:
                for start in range(0, len(places), CHUNK):
                    await asyncio.sleep(0)  # Redis works on what has been sent while the handles are made
                    with _collector_paused():
                        handles += [
                            self._handle(bulk.items[at][ITEM_ID], places[at], messages[at].task.signature.result)
                            for at in range(start, min(start + CHUNK, len(places)))
                        ]
            holders = await sending
        finally:
            if not sending.done():
                sending.cancel()
        if errors:
            raise BulkEnqueueError(errors)
        for place, found in holders.items():
            positions = [at for at, other in enumerate(places) if other == place]
            for at, holder in found.items():
                handles[positions[at]].id = holder
        return handles

    def _encode_all(self, messages: Sequence[Message[Any]]) -> tuple[Bulk, list[tuple[int, TaskQueueError]]]:
        largest = self._application.max_payload_bytes
        # One time for each queue: what is encoded again is to be what it was.
        clock = functools.cache(self._clock)
        bulk = Bulk(lambda n, task_id: messages[n].encode(largest, self._sealer, task_id=task_id, clock=clock))
        size = 0
        errors: list[tuple[int, TaskQueueError]] = []
        with _collector_paused():
            for index, message in enumerate(messages):
                try:
                    if message.options.after:
                        raise ConfigurationError(
                            f"task {message.task.name!r}: after cannot be used in enqueue_many; "
                            "send it with await task.options(after=…).enqueue(…)"
                        )
                    item = message.encode(largest, self._sealer, clock=clock)
                    bulk.places.append(self._place(message, item[ITEM_ID]))
                    size += len(item[ITEM_ENVELOPE])
                    if size <= KEPT_BYTES:
                        bulk.items.append(item)
                    else:
                        bulk.let_go(item[ITEM_ID], index)
                except TaskQueueError as error:
                    errors.append((index, error))
        return bulk, errors

    async def _send_batches(self, bulk: Bulk, refused: set[str], wait_for_room: float) -> dict[str, dict[int, str]]:
        """Which positions in which partition another task of the same unique key stands for."""
        holders: dict[str, dict[int, str]] = defaultdict(dict)
        for place, positions in bulk.by_place().items():
            queue = queue_of(place)
            if queue in refused:
                continue
            max_length = self._application.options_of(queue).max_length
            for start, items in bulk.parts(positions):
                # The first makes sure of room for all.
                send = functools.partial(
                    self._broker.enqueue, place, items, max_length=max_length, room_for=len(positions)
                )
                found = await _with_room(wait_for_room, send)
                holders[place] |= {start + position: holder for position, holder in found.items()}
                max_length = 0
        return holders

    # Workflows.

    async def workflow(self, plan: WorkflowPlan) -> TaskHandle[Any] | GroupHandle:
        """Send all nodes of a workflow: those that wait first, so that nothing ends before it can be told.

        In place of a node whose unique key another task has, and keeps, stands that task.
        """
        for _ in range(_MOST_TRIES):
            route = await self._route(plan)
            try:
                if await self._send_plan(plan, route):
                    ends = [
                        self._handle(route.id_of(node), route.places[node], node.message.task.signature.result)
                        for node in plan.ends
                    ]
                    return ends[0] if plan.shape == 1 else GroupHandle(ends, plan.shape)
            except BaseException:
                await self._take_back(route)
                raise
            # Somebody else was faster to get a key, or has just ended: what stands for what is settled anew.
            await self._take_back(route)
            for node in plan.nodes:
                node.id = ids.new_id()
        raise TaskQueueError("a workflow: its unique keys change hands faster than it can be sent; try again")

    async def _route(self, plan: WorkflowPlan) -> Route:
        places = {node: self._place(node.message, node.id) for node in plan.nodes}
        route = Route(places)
        first: dict[tuple[str, str], Node] = {}  # of each key, by partition
        for node in plan.nodes:
            key = node.message.unique_key
            if key is None:
                continue
            before = first.get((places[node], key))
            if before is not None and node.keeps_existing:
                route.twins[node] = before
                continue
            first[places[node], key] = node
            if node.keeps_existing and (holder := await self._broker.holder(places[node], key)) is not None:
                route.holders[node] = holder
        return route

    async def _send_plan(self, plan: WorkflowPlan, route: Route) -> bool:
        """Whether it is there as a whole; if not, a task that was to stand for a node did not."""
        places = route.places
        waiting_for: dict[Node, list[Edge]] = defaultdict(list)
        for node in plan.nodes:
            for position, before in enumerate(node.after):
                edge = Edge(places[node], node.id, position, carries=position < node.carried)
                waiting_for[route.twins.get(before, before)].append(edge)
        # All are encoded before the first is sent: a bad argument leaves nothing behind.
        own = [node for node in plan.nodes if node not in route.twins and node not in route.holders]
        encoded = await self._by_the_clock(
            lambda: {node: self._encode(node, waiting_for[node], route) for node in plan.nodes}
        )
        # Those that more wait for than one call tells: one that could start at once waits until all are linked to it.
        wide = [node for node in own if len(waiting_for[node]) > MOST_EDGES]
        for node in wide:
            if not node.waits:
                _extras_of(encoded[node]).waits = Waits(1, 0, _WHOLE_WITHIN_MS)
        starts = [node for node in own if not node.waits]
        keeping = [node for node in starts if node.keeps_existing and node.message.unique_key]
        others = [node for node in starts if not (node.keeps_existing and node.message.unique_key)]
        blocked = [node for node in own if node.waits]
        at_once = (
            len(set(places.values())) == 1
            and len(own) <= CHUNK
            and sum(bounds.item_bytes(encoded[node]) for node in own) <= bounds.SURE_BYTES
            and not wide
            and not any(node.handles or node.message.unique_key for node in plan.nodes)
        )
        if at_once:
            await self._send_nodes([*blocked, *starts], places, encoded, route.sent)
            return True
        for node in blocked:
            extras = _extras_of(encoded[node])
            assert extras.waits is not None
            extras.waits = extras.waits._replace(unconfirmed_ms=_WHOLE_WITHIN_MS)
        if await self._send_nodes(blocked, places, encoded, route.sent):
            return False
        for node in blocked:
            for position, handle in enumerate(node.handles, start=len(node.after)):
                await self._link(node, places[node], handle, position)
        for node, holder in route.holders.items():
            if not await self._link_all(places[node], holder, waiting_for[node]):
                return False
        for node in wide:
            if node.waits:
                await self._link_all(places[node], node.id, waiting_for[node][MOST_EDGES:])
        if await self._send_nodes(keeping, places, encoded, route.sent):
            return False
        await self._send_nodes(others, places, encoded, route.sent)
        by_place: dict[str, list[str]] = defaultdict(list)
        gated = [node for node in wide if not node.waits]
        for node in gated:
            await self._link_all(places[node], node.id, waiting_for[node][MOST_EDGES:])
        for node in [*blocked, *gated]:
            by_place[places[node]].append(node.id)
        for place, waiting in by_place.items():
            await self._broker.confirm(place, waiting)
        for node in gated:
            await self._broker.signal(Signal(places[node], node.id, 0, node.id, result_record.SUCCEEDED, b""))
        return True

    async def _take_back(self, route: Route) -> None:
        for node in route.sent:
            with contextlib.suppress(TaskQueueError):
                await self._handle(node.id, route.places[node]).cancel()

    def _encode(self, node: Node, waiting: Sequence[Edge], route: Route) -> Item:
        settings: dict[str, Any] = {}
        if node.carried:
            settings[call_settings.INPUT_SHAPE] = node.shape
            if self._application.seal.configured:
                # Whose results these are to be: no other task's can be put in their place.
                sources = [[before.message.queue, route.id_of(before)] for before in node.after[: node.carried]]
                settings[call_settings.INPUT_SOURCES] = sources
        if node.waited_for:
            settings[call_settings.RESULT_IS_TAKEN] = 1
        item = node.message.encode(
            self._application.max_payload_bytes,
            self._sealer,
            task_id=node.id,
            behind_result=node.carried > 0,
            more_settings=settings,
            clock=self._clock,
        )
        task_id, blob, delay, eta, extras = item
        if waiting or node.waits:
            extras = extras or Extras()
            extras.edges = waiting[:MOST_EDGES]
            if node.waits:
                extras.waits = Waits(len(node.after) + len(node.handles), node.carried)
        return task_id, blob, delay, eta, extras

    async def _send_nodes(
        self, nodes: Sequence[Node], places: dict[Node, str], encoded: dict[Node, Item], sent: list[Node]
    ) -> dict[Node, str]:
        """Which nodes were not added because another task has their unique key, and its id."""
        by_place: dict[str, list[Node]] = defaultdict(list)
        for node in nodes:
            by_place[places[node]].append(node)
        kept: dict[Node, str] = {}
        for place, group in by_place.items():
            max_length = self._application.options_of(queue_of(place)).max_length
            wait = max(node.message.options.wait_for_room for node in group)
            send = functools.partial(
                self._broker.enqueue, place, [encoded[node] for node in group], max_length=max_length
            )
            sent.extend(group)
            kept |= {group[at]: holder for at, holder in (await _with_room(wait, send)).items()}
        return kept

    async def _link(self, node: Node, place: str, handle: TaskHandle[Any], position: int) -> None:
        """Let a node wait for a task that was sent before."""
        # Looked for with our connections: it may be of another queue object.
        where = handle.place or await self._handle(handle.id, None).locate()
        state, record = "unknown", b""
        if where is not None:
            state, record = await self._broker.link(where, handle.id, [Edge(place, node.id, position, carries=False)])
        if where is None or state == "unknown":
            raise TaskNotFoundError(
                f"after: task {handle.id} is not known: it never was, or it has ended without a result that is kept"
            )
        if state != "linked":
            # It has ended already: told at once, as its ending would have told.
            if state == "ended":
                state, reason = result_record.unpack_end(
                    record, queue=queue_of(where), task_id=handle.id, seal=self._application.seal
                )
                record = b"" if state == result_record.SUCCEEDED else str(reason).encode()
            else:
                letter = dead_letter.DeadLetter.of_packed(
                    handle.id, record, queue=queue_of(where), seal=self._application.seal
                )
                state, record = letter.state, letter.error.encode()
            await self._broker.signal(Signal(place, node.id, position, handle.id, state, record))
            await self._broker.relay(place)

    async def _link_all(self, place: str, task_id: str, edges: Sequence[Edge]) -> bool:
        """Let nodes wait for a task; false when that has ended just now."""
        for start in range(0, len(edges), MOST_EDGES):
            state, _ = await self._broker.link(place, task_id, edges[start : start + MOST_EDGES])
            if state != "linked":
                return False
        return True


def _extras_of(item: Item) -> Extras:
    extras = item[ITEM_EXTRAS]
    assert extras is not None
    return extras


def _waiting_bytes(waiting: tuple[Item, asyncio.Future[str]]) -> int:
    """One that Redis may refuse for its size goes alone."""
    size = bounds.item_bytes(waiting[0])
    return size if size <= bounds.SURE_BYTES else bounds.CALL_BYTES


@contextlib.contextmanager
def _collector_paused() -> Generator[None]:
    """What is made here stays: looking through all of it for garbage, again and again, would cost a third."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


async def _with_room(seconds: float, send: Callable[[], Awaitable[T]]) -> T:
    """Send, and while the queue is full, again, for so long."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    attempt = 0
    while True:
        try:
            return await send()
        except QueueFullError:
            delay = min(backoff_seconds(min(attempt, 4)), until - loop.time())
            if delay <= 0:
                raise
        attempt += 1
        await asyncio.sleep(delay)
