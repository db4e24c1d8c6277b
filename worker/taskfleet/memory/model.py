"""One queue as it should behave: the Lua scripts in plain Python, without Redis, sockets, tasks or a clock.

`InMemoryBroker` is made of these, and a property-based test compares them with the scripts, reply by reply and
structure by structure.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskfleet.memory.state import AGAIN_MS, NEVER, Gathering, Progress, QueueState, Tag
from taskfleet.memory.step import Step
from taskfleet.protocol import result_record
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.claim import StepReply
from taskfleet.protocol.item import ITEM_ID, KEEP_EXISTING, REPLACE, Edge, Extras, Item, queue_full
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.stats import QueueStats

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions


class QueueModel(QueueState):
    """The operations on one queue or partition. `now` is in milliseconds; bounds are those of the scripts."""

    def step(self, now: int, options: QueueOptions, owner: str, wanted: int, outcomes: Sequence[Outcome]) -> StepReply:
        """lua/step.lua: record outcomes and claim up to `wanted` tasks."""
        self.now = now
        return Step(self, options, owner, wanted).run(outcomes)

    # lua/enqueue.lua

    def enqueue(self, now: int, items: Sequence[Item], max_length: int, total: int) -> dict[int, str]:
        """Add tasks; returns the positions whose unique key another task has, and that one's id."""
        self.now = now
        present = {item[ITEM_ID] for item in items} & self.tasks.keys()
        fresh = sum(item[ITEM_ID] not in present for item in items)
        if max_length and fresh:
            spared = self._spared(items, present)
            fresh, total, waiting = fresh - spared, total - spared, self.waiting()
            if fresh and waiting + max(fresh, total) > max_length:
                raise queue_full(self.name, waiting, max_length)
        nothing_ready = not self.ready and not self.fair
        holders: dict[int, str] = {}
        added = 0
        for position, item in enumerate(items):
            task_id, envelope, _, _, extras = item
            if task_id in present:
                continue
            due, follows = self._due(item), False
            if extras is not None and extras.unique_key is not None:
                holder = self.holder_of(extras.unique_key)
                older = self.in_the_way(holder, extras)
                follows = holder is not None and holder != older
                if older is not None:
                    if extras.unique_mode == KEEP_EXISTING or extras.replaces != older:
                        holders[position] = older
                        continue
                    was_due = self.due_again(older) if extras.unique_mode == REPLACE else None
                    reason = f"replaced by task {task_id}".encode()
                    self.end_waiting(older, extras.replaced_record, extras.replaced_ttl_ms, reason)
                    due = due if was_due is None else was_due
            present.add(task_id)
            added += 1
            self._put(task_id, envelope, extras, due, follows=follows)
        self.counts["enqueued"] += added
        if nothing_ready and added:
            self._say_active()
        return holders

    def _spared(self, items: Sequence[Item], present: set[str]) -> int:
        """How many need no room of their own: they are kept out by another of their key, or take its place."""
        spared = 0
        seen: set[str] = set()
        for task_id, _, _, _, extras in items:
            if extras is not None and (key := extras.unique_key) is not None and task_id not in present:
                in_the_way = self.in_the_way(self.holder_of(key), extras) is not None
                spared += key in seen or in_the_way
                seen.add(key)
        return spared

    def accept(self, task_id: str, blob: bytes, extras: Extras, due: int, *, follows: bool = False) -> None:
        """Add one task that nothing stands in the way of: what lua/tick.lua adds."""
        nothing_ready = not self.ready and not self.fair
        self._put(task_id, blob, extras, due, follows=follows)
        self.counts["enqueued"] += 1
        self.call_a_worker()
        if nothing_ready:
            self._say_active()

    def _say_active(self) -> None:
        self.said.append(("activity", queue_of(self.name)))

    def waiting(self) -> int:
        """How many tasks wait, whatever for."""
        parked = sum(len(ids) for ids in self.parked.values())
        listed = len(self.ready) - self.counts["removed"]
        return listed + len(self.fair) + len(self.delayed) + parked + len(self.blocked)

    def _due(self, item: Item) -> int:
        """When the task is due, ms; 0 for at once."""
        _, _, delay_ms, eta_ms, _ = item
        if eta_ms:
            return eta_ms
        return self.now + delay_ms if delay_ms > 0 else 0

    def in_the_way(self, holder: str | None, extras: Extras) -> str | None:
        """Of the tasks of a unique key, the one that is kept, or that a new one replaces: the newest that waits.

        One that runs is not replaced, so the new one comes after it.
        """
        if holder is None or extras.unique_mode == KEEP_EXISTING or extras.unique_key is None:
            return holder
        return self.follower_of(extras.unique_key) or (None if holder in self.owners else holder)

    def _put(self, task_id: str, blob: bytes, extras: Extras | None, due: int, *, follows: bool) -> None:
        # The stamp is when the task was accepted: the age of the head is read from it.
        self.tasks[task_id] = struct.pack(">d", self.now) + blob
        extras = extras or Extras()
        if extras.unique_key is not None:
            (self.followers if follows else self.unique)[extras.unique_key] = task_id
        tag = None
        if extras.has_keys or extras.edges:
            tag = self.tags[task_id] = Tag(extras.unique_key, extras.limit_key, extras.fair_key, list(extras.edges))
            if follows:
                tag.due = due if extras.waits is None else 0
        if extras.waits is not None:
            pending, carried, unless_ms = extras.waits
            self.gathering[task_id] = Gathering(pending, pending, carried, max(0, due - self.now))
            self.blocked.add(task_id, self.now + unless_ms if unless_ms > 0 else NEVER)
        elif due > self.now or follows:
            first = self.delayed.first_score()
            due = due if due > self.now else self.now + AGAIN_MS
            self.delayed.add(task_id, due)
            # Idle workers sleep until the first due time that they know of: tell one about an earlier one.
            if first is None or due < first:
                self.call_a_worker()
        else:
            self.place(task_id, tag)
            self.call_a_worker()

    # lua/cancel.lua, link.lua, resolve.lua, status.lua

    def cancel(self, now: int, task_id: str, record: bytes, ttl_ms: int, reason: str) -> tuple[bool, int]:
        """At once when the task waits, through its worker when it runs: (whether anything changed, signals)."""
        self.now = now
        if task_id not in self.tasks:
            return False, 0
        if task_id in self.owners:
            fresh = task_id not in self.cancelling
            self.cancelling.add(task_id)
            self.said.append(("control", f"cancel {task_id}"))
            return fresh, 0
        self.end_waiting(task_id, record, ttl_ms, reason.encode())
        return True, len(self.outbox)

    def link(self, now: int, task_id: str, edges: Sequence[Edge]) -> tuple[str, bytes]:
        """Let tasks of any queue wait for one of this."""
        self.now = now
        if task_id in self.tasks:
            known = self.tags.setdefault(task_id, Tag()).edges
            for edge in edges:
                if not any((other.id, other.position) == (edge.id, edge.position) for other in known):
                    known.append(edge)
            return "linked", b""
        if task_id in self.letters:
            return "dead", self.letters[task_id].packed()
        record = self.result_of(task_id)
        return ("unknown", b"") if record is None else ("ended", record)

    def confirm(self, ids: Sequence[str]) -> None:
        for task_id in ids:
            if task_id in self.blocked:
                self.blocked.add(task_id, NEVER)

    def deliver(self, now: int, signal: Signal, record: bytes, told: bytes) -> int:
        """Tell a task that waits how another ended. Told twice, it counts once.

        Should it be cancelled for that, `record` is its own, and `told` what those after it learn.
        """
        self.now = now
        if signal.state == "succeeded":
            self.resolve(signal.id, signal.position, signal.value)
            self._say_active()
        elif signal.id in self.gathering:
            self.end_waiting(signal.id, record, result_record.CANCELLED_TTL_MS, told)
        return len(self.outbox)

    def status(self, now: int, task_id: str, *, announce: bool) -> tuple[str, bytes]:
        self.now = now
        if task_id in self.letters:
            return "dead", self.letters[task_id].packed()
        record = self.result_of(task_id)
        if record is not None:
            return "ended", record
        if task_id not in self.tasks:
            return "unknown", b""
        if announce:
            self.announced.add(task_id)
        return self._where(task_id), b""

    def _where(self, task_id: str) -> str:
        if task_id in self.owners:
            return "running"
        if task_id in self.gathering:
            return "blocked"
        if task_id in self.delayed:
            return "retrying" if self.progress_of(task_id).attempt > 1 else "delayed"
        return "delayed" if self.is_parked(task_id, self.tags.get(task_id)) else "ready"

    # lua/renew.lua, progress.lua

    def renew(
        self, now: int, owner: str, lease_ms: int, busy_ms: int, held: Sequence[tuple[str, int]]
    ) -> tuple[list[str], list[str]]:
        """Prolong leases under their own tokens: (ids that are not the owner's any more, ids to cancel)."""
        self.now = now
        lost: list[str] = []
        cancelled: list[str] = []
        for task_id, delivery in held:
            if self.owners.get(task_id) != (owner, delivery):
                lost.append(task_id)
                continue
            self.leases.add(task_id, now + lease_ms)
            if task_id in self.cancelling:
                cancelled.append(task_id)
        self.counts["busy_ms"] += busy_ms
        return lost, cancelled

    def report(self, now: int, owner: str, reports: Sequence[tuple[str, int, bytes]]) -> set[str]:
        """Keep what running tasks say of how far they are; returns the ids that are not the owner's any more."""
        self.now = now
        lost: set[str] = set()
        for task_id, delivery, packed in reports:
            if self.owners.get(task_id) == (owner, delivery):
                self.reports[task_id] = struct.pack(">d", now) + packed
            else:
                lost.add(task_id)
        return lost

    # lua/stats.lua

    def stats(self, now: int, horizon_ms: int) -> QueueStats:
        self.now = now
        overdue = self.delayed.count_up_to(now)
        ready = max(0, len(self.ready) - self.counts["removed"]) + len(self.fair) + overdue + len(self.outbox)
        ages = [now - self._ready_since(task_id) for task_id in [*itertools.islice(self.ready, 1), *self.fair.first(1)]]
        if overdue:
            ages.append(now - (self.delayed.first_score() or 0))
        return QueueStats(
            ready=ready,
            in_flight=len(self.leases),
            delayed=len(self.delayed) - overdue + sum(len(ids) for ids in self.parked.values()),
            due=self.delayed.count_up_to(now + horizon_ms) - overdue if horizon_ms > 0 else 0,
            dead=len(self.dead),
            oldest_age_seconds=int(max([0, *ages])) / 1000,
            enqueued_total=self.counts["enqueued"],
            finished_total=self.counts["finished"],
            failed_total=self.counts["failed"],
            busy_ms_total=self.counts["busy_ms"],
            paused=self.paused,
            blocked=len(self.blocked),
        )

    def _ready_since(self, task_id: str) -> float:
        since: float = self.progress_of(task_id).since_ms
        if not since:
            blob = self.tasks.get(task_id, b"")
            since = struct.unpack_from(">d", blob)[0] if len(blob) >= 8 else self.now
            if not 0 <= since <= self.now:
                since = self.now  # no stamp of ours, or not even a number
        return since

    # lua/requeue_dead.lua, purge.lua

    def requeue_dead(
        self, now: int, ids: Sequence[str], passed: int, most: int = CHUNK
    ) -> tuple[int, list[tuple[str, str]]]:
        """Put dead letters back to the tail, with all their attempts before them; without `ids` the oldest `most`
        behind the first `passed`. Returns how many moved, and those that stay: (id, the task that has its unique key,
        or '').
        """
        self.now = now
        nothing_ready = not self.ready and not self.fair
        moved = 0
        stay: list[tuple[str, str]] = []
        for task_id in ids or self.dead.first(most, start=passed):
            letter = self.letters.get(task_id)
            if letter is None:
                continue
            holder = self.holder_of(letter.unique) if letter.unique is not None else None
            if holder is not None or letter.state == result_record.CANCELLED:
                stay.append((task_id, holder or ""))
                continue
            del self.letters[task_id]
            self.dead.remove(task_id)
            self.tasks[task_id] = letter.blob
            if any(key is not None for key in (letter.unique, letter.limit, letter.fair)):
                self.tags[task_id] = Tag(letter.unique, letter.limit, letter.fair)
            if letter.unique is not None:
                self.unique[letter.unique] = task_id
            if letter.inputs is not None:
                self.inputs[task_id] = letter.inputs
            # The delivery number goes on from where it was: an outcome from before the funeral stays stale.
            self.place_at_tail(task_id, Progress(1, letter.delivery, 0))
            moved += 1
        if moved:
            self.counts["enqueued"] += moved
            self.call_a_worker()
            if nothing_ready:
                self._say_active()
        return moved, stay

    def purge_dead(self) -> int:
        dropped = len(self.dead)
        self.dead.clear()
        self.letters.clear()
        return dropped

    def purge(self, now: int) -> tuple[int, int]:
        """Drop at most 1000 that wait: (dropped, left). Running tasks are left alone."""
        self.now = now
        listed = [self.ready.popleft() for _ in range(min(CHUNK, len(self.ready)))]
        others = [
            *self.fair,
            *self.delayed,
            *self.blocked,
            *(i for key in sorted(self.parked) for i in self.parked[key]),
        ]
        dropped = 0
        for task_id in listed:
            if task_id in self.tasks:
                dropped += 1
                self._drop(task_id)
            else:
                self.counts["removed"] -= 1
        for task_id in others[: CHUNK - len(listed)]:
            dropped += 1
            self.unplace(task_id)
            self._drop(task_id)
        self.counts["finished"] += dropped
        return dropped, self.waiting() + self.counts["removed"]

    def _drop(self, task_id: str) -> None:
        self.forget(task_id)
        self.release(task_id, "cancelled", b"its queue was purged")
        self.announce_end(task_id)
