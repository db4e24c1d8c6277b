"""A model of one queue: the Lua scripts in plain Python, without Redis, sockets, tasks or a clock.

`InMemoryBroker` is made of such queues. A property-based test compares them with the scripts, reply by reply and
structure by structure, and another test compares the names on both sides.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskfleet.memory.records import AttemptHistory, Tag
from taskfleet.memory.state import NEVER, QueueState
from taskfleet.memory.step import Step
from taskfleet.protocol import result_record
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.claim import HeldTask, Renewal, StepReply
from taskfleet.protocol.item import ITEM_ID, KEEP_EXISTING, REPLACE, Edge, Extras, Item, queue_full
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import queue_of
from taskfleet.protocol.progress_report import ProgressReport
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.stats import QueueStats
from taskfleet.protocol.status import DEAD, ENDED, LINKED, UNKNOWN, TaskStatus

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions


_MOST_FOLLOWERS = 200  # overdue tasks that the figures look at


class QueueModel(QueueState):
    """The operations on one queue or partition. `now` is in milliseconds; bounds are those of the scripts."""

    def step(self, now: int, options: QueueOptions, owner: str, wanted: int, outcomes: Sequence[Outcome]) -> StepReply:
        """lua/step.lua: record outcomes and claim up to `wanted` tasks."""
        self.now = now
        return Step(self, options, owner, wanted).run(outcomes)

    # lua/enqueue.lua, enqueue/one_by_one.lua

    def enqueue(self, now: int, items: Sequence[Item], max_length: int, total: int) -> dict[int, str]:
        """Add tasks; returns the positions whose unique key another task has, and the id of that task."""
        self.now = now
        present = {item[ITEM_ID] for item in items} & self.tasks.keys()
        if max_length:
            self._no_room(items, present, max_length, total)
        nothing_ready = not self.ready and not self.fair
        holders: dict[int, str] = {}
        added = 0
        for position, item in enumerate(items):
            task_id, envelope, _, _, extras = item
            if task_id in present:
                continue
            due, follows = self._due_of(item), False
            if extras is not None and extras.unique_key is not None:
                holder, due, follows = self._check_key(task_id, extras.unique_key, extras, due)
                if holder is not None:
                    holders[position] = holder
                    continue
            present.add(task_id)
            added += 1
            self.put(task_id, envelope, extras, due, follows=follows)
        self._finish(added, nothing_ready=nothing_ready)
        return holders

    def _no_room(self, items: Sequence[Item], present: set[str], max_length: int, total: int) -> None:
        """Raise `QueueFullError` when the queue has no room for the new tasks of this call and of those that follow."""
        spared = self._spared(items, present)
        fresh = sum(item[ITEM_ID] not in present for item in items) - spared
        waiting = self.waiting_tasks()
        if fresh > 0 and waiting + max(fresh, total - spared) > max_length:
            raise queue_full(self.name, waiting, max_length)

    def _spared(self, items: Sequence[Item], present: set[str]) -> int:
        """The number of tasks that need no room: a task of their key keeps them out, or they replace it."""
        spared = 0
        seen: set[str] = set()
        for task_id, _, _, _, extras in items:
            if extras is not None and (key := extras.unique_key) is not None and task_id not in present:
                spared += key in seen or self.in_the_way(self.holder_of(key), key, extras.unique_mode) is not None
                seen.add(key)
        return spared

    def _check_key(self, task_id: str, key: str, extras: Extras, due: int) -> tuple[str | None, int, bool]:
        """The effect of the unique key on an item: the task that keeps it out, its due time, whether it is a follower.

        A task that it replaces is ended.
        """
        holder = self.holder_of(key)
        older = self.in_the_way(holder, key, extras.unique_mode)
        if older is None:
            return None, due, holder is not None
        if extras.unique_mode == KEEP_EXISTING or extras.replaces != older:
            return older, due, False
        was_due = self.due_again(older) if extras.unique_mode == REPLACE else None
        reason = f"replaced by task {task_id}".encode()
        self.end_waiting(older, extras.replaced_record, extras.replaced_ttl_ms, reason)
        return None, due if was_due is None else was_due, holder != older

    def _due_of(self, item: Item) -> int:
        """The time (ms) when a task is due; 0 for at once."""
        _, _, delay_ms, eta_ms, _ = item
        if eta_ms:
            return eta_ms
        return self.now + delay_ms if delay_ms > 0 else 0

    def _finish(self, added: int, *, nothing_ready: bool) -> None:
        self.counts["enqueued"] += added
        if nothing_ready and added:
            self._say_active()

    def _say_active(self) -> None:
        self.said.append(("activity", queue_of(self.name)))

    # lua/tick.lua

    def accept(self, task_id: str, envelope: bytes, extras: Extras, due: int, *, follows: bool = False) -> None:
        """Add the task of a tick that no other task prevents."""
        nothing_ready = not self.ready and not self.fair
        self.put(task_id, envelope, extras, due, follows=follows)
        self.call_a_worker()
        self._finish(1, nothing_ready=nothing_ready)

    # lua/cancel.lua, link.lua, resolve.lua, status.lua

    def cancel(self, now: int, task_id: str, record: bytes, ttl_ms: int, reason: str) -> tuple[bool, int]:
        """Cancel a waiting task at once, and a running one through its worker: (whether its state changed, signals)."""
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

    def link(self, now: int, task_id: str, edges: Sequence[Edge]) -> TaskStatus:
        """Let tasks of any queue wait for a task of this queue."""
        self.now = now
        if task_id in self.tasks:
            known = self.tags.setdefault(task_id, Tag()).edges
            for edge in edges:
                if not any((other.id, other.position) == (edge.id, edge.position) for other in known):
                    known.append(edge)
            return TaskStatus(LINKED, b"")
        if task_id in self.letters:
            return TaskStatus(DEAD, self.letters[task_id].packed())
        record = self.result_of(task_id)
        return TaskStatus(UNKNOWN, b"") if record is None else TaskStatus(ENDED, record)

    def confirm(self, ids: Sequence[str]) -> None:
        for task_id in ids:
            if task_id in self.blocked:
                self.blocked.add(task_id, NEVER)

    def deliver(self, now: int, signal: Signal, record: bytes, reason: bytes) -> int:
        """Tell a waiting task how another task ended. A signal that is delivered twice counts once.

        If the signal cancels the waiting task, `record` is its result, and `reason` is for the tasks that wait for it.
        """
        self.now = now
        if signal.state == "succeeded":
            self.resolve(signal.id, signal.position, signal.value)
            self._say_active()
        elif signal.id in self.gathering:
            self.end_waiting(signal.id, record, result_record.CANCELLED_TTL_MS, reason)
        return len(self.outbox)

    def status(self, now: int, task_id: str, *, announce: bool) -> TaskStatus:
        self.now = now
        if task_id in self.letters:
            return TaskStatus(DEAD, self.letters[task_id].packed())
        record = self.result_of(task_id)
        if record is not None:
            return TaskStatus(ENDED, record)
        if task_id not in self.tasks:
            return TaskStatus(UNKNOWN, b"")
        if announce:
            self.announced.add(task_id)
        return TaskStatus(self._where(task_id), b"")

    def _where(self, task_id: str) -> str:
        if task_id in self.owners:
            return "running"
        if task_id in self.gathering:
            return "blocked"
        if task_id in self.delayed:
            return "retrying" if self.history_of(task_id).attempt > 1 else "delayed"
        tag = self.tags.get(task_id)
        parked = tag is not None and tag.limit is not None and task_id in self.parked.get(tag.limit, ())
        return "delayed" if parked else "ready"

    # lua/renew.lua, progress.lua

    def renew(self, now: int, owner: str, lease_ms: int, busy_ms: int, held: Sequence[HeldTask]) -> Renewal:
        """Renew leases with their fencing tokens."""
        self.now = now
        lost: list[str] = []
        cancelled: list[str] = []
        unknown: list[str] = []
        for task_id, delivery in held:
            if self.owners.get(task_id) != (owner, delivery):
                (unknown if self.is_unknown(task_id) else lost).append(task_id)
                continue
            self.leases.add(task_id, now + lease_ms)
            if task_id in self.cancelling:
                cancelled.append(task_id)
        self.counts["busy_ms"] += busy_ms
        return Renewal(lost, cancelled, unknown)

    def report(self, now: int, owner: str, reports: Sequence[ProgressReport]) -> set[str]:
        """Keep the progress reports of running tasks; returns the ids that were taken from this owner."""
        self.now = now
        lost: set[str] = set()
        for task_id, delivery, packed in reports:
            if self.owners.get(task_id) == (owner, delivery):
                self.reports[task_id] = struct.pack(">d", now) + packed
            elif not self.is_unknown(task_id):
                lost.add(task_id)
        return lost

    # lua/stats.lua

    def stats(self, now: int, horizon_ms: int, soon_ms: int, ticks: Sequence[int]) -> QueueStats:
        """The figures of the queue. `ticks` are the times (ms) of the next ticks of its schedules."""
        self.now = now
        overdue = self.delayed.count_up_to(now)
        ready = max(0, len(self.ready) - self.counts["removed"]) + len(self.fair) + overdue + len(self.outbox)
        ages = [now - self._ready_since(task_id) for task_id in [*itertools.islice(self.ready, 1), *self.fair.first(1)]]
        if overdue:
            ages.append(now - (self.delayed.first_score() or 0))
        counts, parked = self.counts, sum(len(ids) for ids in self.parked.values())
        return QueueStats(
            ready=ready,
            in_flight=len(self.leases),
            delayed=len(self.delayed) - overdue + parked,
            due=self.delayed.count_up_to(now + horizon_ms) - overdue if horizon_ms > 0 else 0,
            dead=len(self.dead),
            oldest_age_seconds=int(max([0, *ages])) / 1000,
            enqueued_total=counts["enqueued"],
            finished_total=counts["finished"],
            failed_total=counts["failed"],
            busy_ms_total=counts["busy_ms"],
            paused=self.paused,
            blocked=len(self.blocked),
            runnable_total=max(0, counts["enqueued"] - counts["deferred"] + self._uncounted(overdue)),
            attempts_total=max(0, counts["finished"] + counts["retried"] - counts["unrun"]),
            parked=parked,
            due_soon=self.delayed.count_up_to(now + soon_ms) - overdue if soon_ms > 0 else 0,
            ticks_due=sum(tick <= now + horizon_ms for tick in ticks),
            ticks_due_soon=sum(tick <= now + soon_ms for tick in ticks),
        )

    def _uncounted(self, overdue: int) -> int:
        """The overdue tasks that a step has yet to count as ready."""
        if "deferred" not in self.counts:
            return 0
        if not self.unique and not self.followers:
            return overdue
        return overdue - sum(self.is_counted(task_id) for task_id in self.delayed.up_to(self.now, _MOST_FOLLOWERS))

    def _ready_since(self, task_id: str) -> float:
        since: float = self.history_of(task_id).since_ms
        if not since:
            blob = self.tasks.get(task_id, b"")
            since = struct.unpack_from(">d", blob)[0] if len(blob) >= 8 else self.now
            if not 0 <= since <= self.now:
                since = self.now  # a stamp that another program has written, or no number
        return since

    # lua/requeue_dead.lua, purge.lua

    def requeue_dead(
        self, now: int, ids: Sequence[str], passed: int, most: int = CHUNK
    ) -> tuple[int, list[tuple[str, str]]]:
        """Requeue dead letters at the tail, with all their attempts before them.

        Without `ids`, the oldest `most` letters after the first `passed`. Returns the number of requeued letters, and
        the others: (id, the task that has its unique key, or '').
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
            last = StoredError(letter.attempt, letter.died_ms, now, letter.record, "")
            self.note_error(task_id, letter.errors, last)
            # The delivery number continues from its last value, so an outcome of an earlier delivery stays stale.
            self.make_ready_at_tail(task_id, AttemptHistory(1, letter.delivery, 0))
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
        """Delete at most 1000 waiting tasks: (deleted, left). Running tasks are left alone."""
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
            self.withdraw(task_id)
            self._drop(task_id)
        self.counts["finished"] += dropped
        self.counts["unrun"] += dropped
        return dropped, self.waiting_tasks() + self.counts["removed"]

    def _drop(self, task_id: str) -> None:
        self.forget(task_id)
        self.release(task_id, "cancelled", b"its queue was purged")
        self.announce_end(task_id)
