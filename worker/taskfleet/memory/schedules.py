"""Schedules in memory: lua/schedule_*.lua and lua/tick.lua in plain Python."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from taskfleet.memory.model import QueueModel
from taskfleet.memory.store import Accepted, MemoryStore, Scheduled
from taskfleet.protocol import result_record
from taskfleet.protocol.due import NO_STATE, START, Due, TickPosition
from taskfleet.protocol.item import KEEP_EXISTING, REPLACE
from taskfleet.protocol.partitions import Partition, queue_of
from taskfleet.protocol.schedules import (
    Entry,
    ScheduleState,
    SpecHead,
    Tick,
    TickReply,
)


class InMemorySchedules:
    """Adds, removes, lists and ticks schedules. `seal` seals the record of a task that a tick replaces."""

    def __init__(self, store: MemoryStore, seal: Callable[[str, str, bytes], bytes]) -> None:
        self._store = store
        self._seal = seal

    async def add(self, partition: Partition, name: str, spec: bytes, next_ms: int) -> int | None:
        """Add or replace a schedule. Returns the next tick, which stays the same if the timing is the same."""
        new = SpecHead.of_packed(spec)
        with self._store.lock:
            self._store.known.add(partition)
            there = self._store.schedules_of(partition)
            before = there.get(name)
            keeps = (
                before is not None
                and before.tick_ms is not None
                and SpecHead.of_packed(before.spec).timing == new.timing
            )
            tick = None if new.paused else before.tick_ms if before is not None and keeps else next_ms
            there[name] = Scheduled(spec, tick, before.state if before is not None else NO_STATE)
            self._store.publish("schedules", name)
            return tick

    async def change(self, before: Entry, spec: bytes, next_ms: int) -> bool:
        """Replace a schedule by another spec, unless it has changed since it was read."""
        with self._store.lock:
            there = self._store.schedules_of(before.partition).get(before.name)
            if there is None or there.spec not in (before.spec, spec):
                return False
            await self.add(before.partition, before.name, spec, next_ms)
            return True

    async def remove(self, partition: Partition, name: str) -> Entry | None:
        """Remove a schedule from one partition and return it."""
        with self._store.lock:
            found = self._store.schedules_of(partition).pop(name, None)
        return None if found is None else Entry(partition, name, found.spec, NO_STATE, found.tick_ms)

    async def now_ms(self, partition: Partition) -> int:
        """The time by the store's clock."""
        return self._store.now()

    async def partitions(self) -> list[Partition]:
        """All partitions that may have schedules."""
        return sorted(self._store.known)

    async def entries(self) -> list[Entry]:
        """All schedules, by queue and name."""
        return [entry for partition in await self.partitions() for entry in await self.entries_of(partition)]

    async def entries_of(self, partition: Partition) -> list[Entry]:
        """The schedules of one partition, by name."""
        with self._store.lock:
            there = sorted(self._store.schedules_of(partition).items())
            return [Entry(partition, name, one.spec, one.state, one.tick_ms) for name, one in there]

    async def due(
        self,
        partitions: Sequence[Partition],
        *,
        limit: int,
        past: Mapping[Partition, TickPosition] = MappingProxyType({}),
    ) -> list[Due]:
        """The due schedules of several partitions, at most `limit` of each, without those up to `past`."""
        found: list[Due] = []
        for partition in partitions:
            now = self._store.now()
            ticking = [entry for entry in await self.entries_of(partition) if entry.tick_ms is not None]
            ticking.sort(key=lambda entry: (entry.tick_ms or 0, entry.name))
            due = [entry for entry in ticking if (entry.tick_ms or 0) <= now]
            later = ticking[len(due)].tick_ms if len(due) < len(ticking) else None
            first, last = past.get(partition, START)
            if first and (first > len(ticking) or ticking[first - 1].name.encode() != last):
                first = 0
            page = due[first : first + limit]
            reached = TickPosition(first + len(page), page[-1].name.encode() if page else last)
            found.append(Due(partition, now, later, tuple(page), len(due) > reached.looked_at, reached))
        return found

    async def tick(self, ticks: Sequence[Tick]) -> list[TickReply]:
        """Perform ticks."""
        replies: list[TickReply] = []
        self._store.introduce()
        for tick in ticks:
            with self._store.queue(tick.entry.partition) as model:
                replies.append(self._tick(tick, model))
        return replies

    def _tick(self, tick: Tick, model: QueueModel) -> TickReply:
        model.now = self._store.now()
        one = self._store.schedules_of(tick.entry.partition).get(tick.entry.name)
        if one is None or one.tick_ms != tick.entry.tick_ms or SpecHead.of_packed(one.spec).revision != tick.revision:
            return TickReply("stale", "", 0)
        if one.tick_ms is None or model.now < one.tick_ms:
            return TickReply("early", "", 0)
        state = ScheduleState.unpack(one.state)
        policy, previous = SpecHead.of_packed(one.spec).policy, state.task_id
        fires, extras = tick.fire_ms is not None, tick.extras
        refused, waiting, interrupted, was_due, follows = False, None, None, None, False
        # The task of the last tick prevents this one: the tick is refused, or that task is cancelled.
        if fires and policy != "Allow" and previous in model.tasks:
            refused = policy == "Forbid"
            if policy == "Replace":
                waiting, interrupted = (None, previous) if previous in model.owners else (previous, None)
        if fires and extras.unique_key is not None and not refused:
            holder, follower = model.holder_of(extras.unique_key), model.follower_of(extras.unique_key)
            taken = holder is not None and holder not in (waiting, interrupted)
            if extras.unique_mode == KEEP_EXISTING and (taken or follower is not None):
                refused = True
            elif holder is not None and (follower is not None or holder != waiting):
                follows = follower is not None or holder in model.owners
                waiting = follower or (waiting if follows else holder)
                was_due = model.due_again(waiting) if waiting is not None and extras.unique_mode == REPLACE else None
        if waiting is not None and not refused and waiting != tick.replaces:
            return TickReply("name", waiting, 0)
        result = "dropped"
        if refused:
            result = "skipped"
            state = replace(state, skipped=state.skipped + 1)
        elif fires:
            if tick.max_length and waiting is None and model.waiting_tasks() + 1 > tick.max_length:
                return TickReply("full", "", 0)
            if interrupted is not None:
                model.cancelling.add(interrupted)
                model.said.append(("control", f"cancel {interrupted}"))
            if waiting is not None:
                reason = f"replaced by the next tick of schedule {tick.entry.name!r}"
                record = result_record.pack_cancelled(reason)
                record = self._seal(queue_of(model.name), waiting, record)
                model.end_waiting(waiting, record, result_record.CANCELLED_TTL_MS, reason.encode())
            due = model.now + tick.delay_ms if was_due is None else was_due
            self._store.accepted.append(Accepted(tick.entry.partition, tick.task_id, tick.envelope, due, model.now))
            model.accept(tick.task_id, tick.envelope, extras, due, follows=follows)
            result = "fired"
            state = replace(state, last_ms=tick.fire_ms or 0, task_id=tick.task_id, fired=state.fired + 1)
        one.state = replace(state, dropped=state.dropped + tick.dropped).pack()
        one.tick_ms = tick.next_ms or None
        return TickReply(result, "", len(model.outbox))

    async def changes(self) -> AsyncIterator[str]:
        """The names of schedules as they are added or replaced; once, at the start, an empty string."""
        with self._store.listening("schedules") as inbox:
            yield ""
            while True:
                yield await inbox.get()

    async def failed(self, error: BaseException) -> None:
        """No call can fail."""
