"""The structures of one queue, and the moves between them: lua/queue/ in plain Python."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import cast

import msgpack

from taskfleet.memory.sorted_set import SortedSet
from taskfleet.protocol.item import Edge
from taskfleet.protocol.signal import Signal

NEVER = float("inf")
AGAIN_MS = 30_000  # how often one that comes after another looks whether that has ended unheard
SIGNALLED_AGAIN_MS = 60_000


@dataclass(slots=True)
class Progress:
    """What is kept of a task that is not on its first try. `since_ms`: when it became ready; 0 means as enqueued."""

    attempt: int = 1
    delivery: int = 0
    crashes: int = 0
    since_ms: int = 0


@dataclass(slots=True)
class Tag:
    """What only some tasks have: their keys, and who waits for them."""

    unique: str | None = None
    limit: str | None = None
    fair: str | None = None
    edges: list[Edge] = field(default_factory=list)
    due: int | None = None  # when it is due by itself, ms, while another task has its unique key


@dataclass(slots=True)
class Gathering:
    """What a blocked task waits for; the first `carried` results are kept for it."""

    pending: int
    total: int
    carried: int
    delay_ms: int
    came: dict[int, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class Letter:
    """A dead letter, with what its task needs to run again."""

    state: str
    attempt: int
    delivery: int
    died_ms: int
    blob: bytes
    record: bytes
    limit: str | None
    fair: str | None
    inputs: list[bytes] | None
    unique: str | None = None

    def packed(self) -> bytes:
        """As `DeadLetter.of_packed` reads it."""
        parts = [self.state, self.attempt, self.delivery, self.died_ms, self.blob, self.record]
        return cast("bytes", msgpack.packb(parts, use_bin_type=False))


class QueueState:
    """One queue (or one partition). `now` is set by every operation.

    A task is in `tasks` and in exactly one of ready, fair, parked, delayed, blocked, leases, from `enqueue` until its
    outcome is recorded. A task cancelled while it was ready leaves its id in `ready`, counted in `removed`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.now = 0
        self.tasks: dict[str, bytes] = {}  # id → stamped envelope
        self.progress: dict[str, Progress] = {}
        self.tags: dict[str, Tag] = {}
        self.reports: dict[str, bytes] = {}  # id → how far it is, stamped
        # Where a task is.
        self.ready: deque[str] = deque()
        self.fair = SortedSet()  # id → its turn
        self.parked: dict[str, dict[str, None]] = {}  # limit key → ids that wait for its slots or tokens, in order
        self.delayed = SortedSet()  # id → due, ms
        self.blocked = SortedSet()  # id → when it is dropped, ms, unless its workflow is whole
        self.leases = SortedSet()  # id → end, ms
        # What belongs to where it is.
        self.owners: dict[str, tuple[str, int]] = {}  # id → fencing token: incarnation and delivery
        self.gathering: dict[str, Gathering] = {}
        self.inputs: dict[str, list[bytes]] = {}  # id → results of those that it waited for
        self.cancelling: set[str] = set()
        self.announced: set[str] = set()  # ids whose end somebody waits for
        self.unique: dict[str, str] = {}  # unique key → its holder
        self.followers: dict[str, str] = {}  # unique key → the one that comes after the holder
        self.turns = SortedSet()  # fair key → its last turn
        self.turn: float | None = None  # the one that is being served
        self.slots: Counter[str] = Counter()  # limit key → how many run
        self.arrivals = SortedSet()  # limit key → theoretical arrival time, ms
        self.retry_at = SortedSet()  # limit key → when its tasks are looked at again, ms
        # How tasks ended.
        self.dead = SortedSet()  # id → died, ms
        self.letters: dict[str, Letter] = {}
        self.results: dict[str, tuple[bytes, float]] = {}  # id → record, and when it is forgotten, ms
        self.outbox: list[Signal] = []
        # The queue itself.
        self.counts: Counter[str] = Counter()
        self.paused = False
        self.tokens: float | None = None
        self.filled_ms = 0
        self.calls = 0  # for workers that wait
        self.said: list[tuple[str, str]] = []  # (channel, message): done, activity, control

    # Moves.

    def call_a_worker(self) -> None:
        self.calls = max(1, self.calls)

    def progress_of(self, task_id: str) -> Progress:
        return self.progress.get(task_id, Progress())

    def place(self, task_id: str, tag: Tag | None, *, head: bool = False) -> None:
        """Put a task where claims take from. Fair keys take turns by virtual time (start-time fair queueing)."""
        key = tag.fair if tag else None
        if key is None and not head and self.fair:
            key = ""  # while any wait, tasks without a key are one key more
        if key is None:
            (self.ready.appendleft if head else self.ready.append)(task_id)
            return
        at = self.turn or 0
        if not head:
            at = max(at, self.turns.score(key) or 0) + 1
            self.turns.add(key, at)
        self.fair.add(task_id, at)

    def place_at_tail(self, task_id: str, before: Progress) -> None:
        self.progress[task_id] = Progress(before.attempt, before.delivery, before.crashes, self.now)
        self.place(task_id, self.tags.get(task_id))

    def end_turns(self) -> None:
        self.turns.clear()
        self.turn = None

    def park(self, task_id: str, key: str) -> None:
        self.parked.setdefault(key, {})[task_id] = None

    def unpark(self, key: str, n: int) -> int:
        """Let the first `n` that wait for a limit key come in, together, so that they keep their order."""
        members = list(self.parked.get(key, ()))[:n]
        for task_id in reversed(members):
            self.leave_parked(key, task_id)
            self.place(task_id, self.tags.get(task_id), head=True)
        return len(members)

    def leave_parked(self, key: str, task_id: str) -> None:
        del self.parked[key][task_id]
        if not self.parked[key]:
            del self.parked[key]

    def is_parked(self, task_id: str, tag: Tag | None) -> bool:
        return tag is not None and tag.limit is not None and task_id in self.parked.get(tag.limit, ())

    def drop_gathered(self, task_id: str) -> None:
        self.blocked.remove(task_id)
        del self.gathering[task_id]

    def resolve(self, task_id: str, position: int, value: bytes) -> None:
        """One of the tasks that this one waits for has succeeded. Told twice, it counts once."""
        waiting = self.gathering.get(task_id)
        if waiting is None or position in waiting.came:
            return
        waiting.came[position] = value
        waiting.pending -= 1
        if waiting.pending > 0:
            return
        if waiting.carried:
            self.inputs[task_id] = [waiting.came[at] for at in range(waiting.carried)]
        self.drop_gathered(task_id)
        if waiting.delay_ms > 0:
            tag = self.tags.get(task_id)
            if tag is not None and tag.due is not None:
                tag.due = self.now + waiting.delay_ms
            self.delayed.add(task_id, self.now + waiting.delay_ms)
        else:
            self.place_due(task_id, Progress())
        self.call_a_worker()

    # Unique keys.

    def promote(self, key: str) -> str | None:
        """The task that comes after the holder of a unique key becomes its holder."""
        task_id = self.followers.pop(key, None)
        if task_id is None or task_id not in self.tasks:
            return None
        self.unique[key] = task_id
        tag = self.tags[task_id]
        due, tag.due = tag.due or 0, None
        if due > self.now:
            if task_id in self.delayed:
                self.delayed.add(task_id, due)
        elif self.delayed.remove(task_id):
            self.place_at_tail(task_id, Progress())
            self.call_a_worker()
        return task_id

    def holder_of(self, key: str) -> str | None:
        """The task that has a unique key. One that is gone without an ending has nothing any more."""
        task_id = self.unique.get(key)
        return task_id if task_id is not None and task_id in self.tasks else self.promote(key)

    def follower_of(self, key: str) -> str | None:
        task_id = self.followers.get(key)
        return task_id if task_id is not None and task_id in self.tasks else None

    def place_due(self, task_id: str, before: Progress) -> None:
        """A task whose time has come is placed, unless its unique key is another's."""
        tag = self.tags.get(task_id)
        if tag is not None and tag.unique is not None:
            holder = self.holder_of(tag.unique)
            if holder is None:
                self.unique[tag.unique] = task_id
            elif holder != task_id:
                tag.due = tag.due or 0
                self.followers.setdefault(tag.unique, task_id)
                self.delayed.add(task_id, self.now + AGAIN_MS)
                return
        self.place_at_tail(task_id, before)

    def due_again(self, task_id: str) -> int | None:
        """When a task that waits is due, for the one that takes its place; `None` when that is for others to say."""
        if task_id in self.gathering:
            return None
        tag = self.tags.get(task_id)
        if tag is not None and tag.due is not None:
            return tag.due
        return int(self.delayed.score(task_id) or 0)

    def release(self, task_id: str, state: str, value: bytes) -> None:
        """A task has ended: its unique key is free, and those after it are told, here or through the outbox."""
        self.inputs.pop(task_id, None)
        tag = self.tags.pop(task_id, None)
        if tag is None:
            return
        if tag.unique is not None:
            if self.unique.get(tag.unique) == task_id:
                del self.unique[tag.unique]
                self.promote(tag.unique)
            elif self.followers.get(tag.unique) == task_id:
                del self.followers[tag.unique]
        for edge in tag.edges:
            sent = value if state != "succeeded" or edge.carries else b""
            if state == "succeeded" and edge.carries and not value:
                why = b"its result is not kept (result_ttl=0)"
                self.outbox.append(Signal(edge.queue, edge.id, edge.position, task_id, "ended", why, self.name))
            elif state == "succeeded" and edge.queue == self.name:
                self.resolve(edge.id, edge.position, sent)
            else:
                self.outbox.append(Signal(edge.queue, edge.id, edge.position, task_id, state, sent, self.name))

    def signal_cancelled(self, task_id: str, why: str) -> None:
        """Have a blocked task end as cancelled, by a signal that comes from itself."""
        self.outbox.append(Signal(self.name, task_id, 0, task_id, "cancelled", why.encode(), self.name))

    def announce_end(self, task_id: str) -> None:
        if task_id in self.announced:
            self.announced.discard(task_id)
            self.said.append(("done", task_id))

    def unplace(self, task_id: str) -> None:
        """Take a task that waits out of wherever it waits."""
        tag = self.tags.get(task_id)
        limit = tag.limit if tag is not None else None
        if task_id in self.gathering:
            self.drop_gathered(task_id)
            return
        if limit is not None and task_id in self.parked.get(limit, ()):
            self.leave_parked(limit, task_id)
            return
        if self.delayed.remove(task_id):
            return
        if not self.fair.remove(task_id):
            self.counts["removed"] += 1  # its place in `ready` is left behind
        elif not self.fair:
            self.end_turns()
        # It may have been let in for a slot that came free: now that is somebody else's.
        if limit is not None and limit in self.parked:
            self.retry_at.add(limit, self.now)
            self.call_a_worker()

    def forget(self, task_id: str) -> None:
        """Drop what is kept of an unfinished task."""
        del self.tasks[task_id]
        self.progress.pop(task_id, None)
        self.reports.pop(task_id, None)

    def end_waiting(self, task_id: str, record: bytes, ttl_ms: int, reason: bytes) -> None:
        """End a task that waits, recording `record` as its result."""
        self.unplace(task_id)
        self.forget(task_id)
        self.keep_result(task_id, record, ttl_ms)
        self.counts["finished"] += 1
        self.counts["cancelled"] += 1
        self.release(task_id, "cancelled", reason)
        self.announce_end(task_id)

    def keep_result(self, task_id: str, record: bytes, ttl_ms: int) -> None:
        if len(self.results) % 1000 == 999:
            self.results = {i: (kept, until) for i, (kept, until) in self.results.items() if until > self.now}
        self.results[task_id] = (record, self.now + ttl_ms)

    def result_of(self, task_id: str) -> bytes | None:
        record, until = self.results.get(task_id, (b"", 0))
        return record if until > self.now else None
