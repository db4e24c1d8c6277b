"""The structures of one queue, and the moves between them: lua/queue/ in plain Python."""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Sequence
from typing import TypeGuard

from taskfleet.memory.records import AttemptHistory, GatheredResults, Letter, Tag
from taskfleet.memory.sorted_set import SortedSet
from taskfleet.protocol import attempt_errors
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.item import KEEP_EXISTING, Edge, Extras
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.signal import Signal

NEVER = float("inf")
AGAIN_MS = 30_000  # how often the follower of a unique key checks whether its holder has ended unnoticed
SIGNALLED_AGAIN_MS = 60_000  # after this time a signal that was lost is sent again


class QueueState:
    """One queue (or one partition). `now` is set by every operation.

    A task is in `tasks` and in exactly one of ready, fair, parked, delayed, blocked, leases, from `enqueue` until its
    outcome is recorded. A task cancelled while it was ready leaves its id in `ready`, counted in `removed`.
    """

    def __init__(self, name: Partition) -> None:
        self.name = name
        self.now = 0
        self.tasks: dict[str, bytes] = {}  # id → stamped envelope
        self.histories: dict[str, AttemptHistory] = {}
        self.tags: dict[str, Tag] = {}
        self.reports: dict[str, bytes] = {}  # id → stamped progress report
        self.errors: dict[str, list[StoredError]] = {}  # id → the errors of its attempts that failed
        # The structures that a task waits or runs in.
        self.ready: deque[str] = deque()
        self.fair = SortedSet()  # id → the turn of the task
        self.parked: dict[str, dict[str, None]] = {}  # limit key → ids that wait for its slots or tokens, in order
        self.delayed = SortedSet()  # id → due, ms
        self.blocked = SortedSet()  # id → time (ms) when it is dropped, unless its workflow is complete
        self.leases = SortedSet()  # id → end, ms
        # Records that belong to one of these structures.
        self.owners: dict[str, tuple[str, int]] = {}  # id → fencing token: incarnation and delivery
        self.gathering: dict[str, GatheredResults] = {}
        self.inputs: dict[str, list[bytes]] = {}  # id → results of the tasks that it waited for
        self.cancelling: set[str] = set()
        self.announced: set[str] = set()  # ids whose end a client waits for
        self.unique: dict[str, str] = {}  # unique key → its holder
        self.followers: dict[str, str] = {}  # unique key → the task that follows its holder
        self.turns = SortedSet()  # fair key → its last turn
        self.turn: float | None = None  # the turn that is being served
        self.slots: Counter[str] = Counter()  # limit key → number of running tasks
        self.arrivals = SortedSet()  # limit key → theoretical arrival time, ms
        self.retry_at = SortedSet()  # limit key → time (ms) when its tasks are tried again
        # How tasks ended.
        self.dead = SortedSet()  # id → died, ms
        self.letters: dict[str, Letter] = {}
        self.results: dict[str, tuple[bytes, float]] = {}  # id → record, and the time (ms) when it expires
        self.outbox: list[Signal] = []
        # The queue itself.
        self.counts: Counter[str] = Counter()
        self.paused = False
        self.tokens: float | None = None
        self.filled_ms = 0
        self.calls = 0  # for workers that wait
        self.said: list[tuple[str, str]] = []  # (channel, message): done, activity, control

    # lua/queue/wake.lua

    def call_a_worker(self) -> None:
        self.calls = max(1, self.calls)

    # lua/queue/records.lua

    def history_of(self, task_id: str) -> AttemptHistory:
        return self.histories.get(task_id, AttemptHistory())

    def is_counted(self, task_id: str) -> bool:
        """Whether a delayed task has counted as ready already: a follower, whose own time is over."""
        tag = self.tags.get(task_id)
        return tag is not None and tag.due == 0

    # lua/queue/errors.lua

    def note_error(self, task_id: str, earlier: Sequence[StoredError], error: StoredError) -> None:
        """Keep the error of an attempt of a task that runs again, behind earlier ones."""
        if earlier or len(self.errors) < attempt_errors.MOST_FAILING:
            self.errors[task_id] = attempt_errors.with_error(earlier, error)

    # lua/queue/ready.lua

    def make_ready(self, task_id: str, tag: Tag | None, *, head: bool = False) -> None:
        """Make a task ready for a claim. Fair keys take turns by virtual time (start-time fair queueing)."""
        key = tag.fair if tag else None
        if key is None and not head and self.fair:
            key = ""  # while any task has a fair key, the tasks without one share an empty key
        if key is None:
            (self.ready.appendleft if head else self.ready.append)(task_id)
            return
        at = self.turn or 0
        if not head:
            at = max(at, self.turns.score(key) or 0) + 1
            self.turns.add(key, at)
        self.fair.add(task_id, at)

    def make_ready_at_tail(self, task_id: str, before: AttemptHistory) -> None:
        self.histories[task_id] = AttemptHistory(before.attempt, before.delivery, before.crashes, self.now)
        self.make_ready(task_id, self.tags.get(task_id))

    def end_turns(self) -> None:
        self.turns.clear()
        self.turn = None

    def park(self, task_id: str, key: str) -> None:
        self.parked.setdefault(key, {})[task_id] = None

    def unpark(self, key: str, n: int) -> int:
        """Make the first `n` parked tasks of a limit key ready, together, so that they keep their order."""
        members = list(self.parked.get(key, ()))[:n]
        for task_id in reversed(members):
            self.leave_parked(key, task_id)
            self.make_ready(task_id, self.tags.get(task_id), head=True)
        return len(members)

    def leave_parked(self, key: str, task_id: str) -> None:
        del self.parked[key][task_id]
        if not self.parked[key]:
            del self.parked[key]

    def is_parked(self, key: str) -> bool:
        """Whether any task of a limit key is parked."""
        return key in self.parked

    # lua/queue/unique_keys.lua

    def lives(self, task_id: str | None) -> TypeGuard[str]:
        return task_id is not None and task_id in self.tasks

    def promote(self, key: str) -> str | None:
        """Make the follower of a unique key its holder, and return its id."""
        task_id = self.followers.pop(key, None)
        if not self.lives(task_id):
            return None
        self.unique[key] = task_id
        tag = self.tags[task_id]
        due, tag.due = tag.due or 0, None
        if due > self.now:
            if task_id in self.delayed:
                self.delayed.add(task_id, due)
        elif self.delayed.remove(task_id):
            if due > 0:
                self.counts["deferred"] -= 1
            self.make_ready_at_tail(task_id, AttemptHistory())
            self.call_a_worker()
        return task_id

    def holder_of(self, key: str) -> str | None:
        """The holder of a unique key. A holder that is gone without an end holds it no longer."""
        task_id = self.unique.get(key)
        return task_id if self.lives(task_id) else self.promote(key)

    def follower_of(self, key: str) -> str | None:
        task_id = self.followers.get(key)
        return task_id if self.lives(task_id) else None

    def must_follow(self, task_id: str, key: str) -> bool:
        """Whether another task holds this one's unique key. A key without a holder becomes this task's."""
        holder = self.holder_of(key)
        if holder is None:
            self.unique[key] = task_id
        return holder is not None and holder != task_id

    def follow(self, task_id: str, key: str) -> None:
        # A follower counts as having become ready when its own time comes, and only then.
        self.tags[task_id].due = 0
        self.followers.setdefault(key, task_id)
        self.delayed.add(task_id, self.now + AGAIN_MS)

    def come_due(self, task_id: str, before: AttemptHistory) -> None:
        """A task that is due becomes ready, unless another task holds its unique key."""
        tag = self.tags.get(task_id)
        if tag is not None and tag.unique is not None and self.must_follow(task_id, tag.unique):
            self.follow(task_id, tag.unique)
        else:
            self.make_ready_at_tail(task_id, before)

    # lua/queue/inputs.lua

    def block(self, task_id: str, pending: int, carried: int, delay_ms: int, unless_ms: int) -> None:
        """Let a task wait for `pending` other tasks, of which `carried` pass their results on.

        It waits at most `unless_ms`; 0 means without limit.
        """
        self.gathering[task_id] = GatheredResults(pending, pending, carried, delay_ms)
        self.blocked.add(task_id, self.now + unless_ms if unless_ms > 0 else NEVER)

    def drop_gathered(self, task_id: str) -> None:
        """Drop the results that have arrived for a task that is no longer blocked."""
        self.blocked.remove(task_id)
        del self.gathering[task_id]

    def drop_input(self, task_id: str) -> None:
        """Drop the results that were passed on to a task."""
        self.inputs.pop(task_id, None)

    # lua/queue/signals.lua

    def resolve(self, task_id: str, position: int, value: bytes) -> None:
        """A task that this one waits for has succeeded. A signal that is delivered twice counts once."""
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
            self.counts["deferred"] -= 1
            self.come_due(task_id, AttemptHistory())
        self.call_a_worker()

    def signal_one(self, task_id: str, edge: Edge, state: str, value: bytes) -> None:
        """Signal the task at the end of one edge. A task cannot run if the result that it takes was not kept."""
        sent = value if state != "succeeded" or edge.carries else b""
        if state == "succeeded" and edge.carries and not value:
            state, sent = "ended", b"its result is not kept (result_ttl=0)"
        if state == "succeeded" and edge.partition == self.name:
            self.resolve(edge.id, edge.position, sent)
        else:
            self.outbox.append(Signal(edge.partition, edge.id, edge.position, task_id, state, sent, self.name))

    def signal_all(self, task_id: str, tag: Tag, state: str, value: bytes) -> None:
        """Signal all tasks that wait for a task."""
        for edge in tag.edges:
            self.signal_one(task_id, edge, state, value)

    def release(self, task_id: str, state: str, value: bytes) -> None:
        """End a task: its unique key goes to the follower, and the tasks that wait for it are signalled."""
        self.drop_input(task_id)
        tag = self.tags.pop(task_id, None)
        if tag is None:
            return
        if tag.unique is not None:
            if self.unique.get(tag.unique) == task_id:
                del self.unique[tag.unique]
                self.promote(tag.unique)
            elif self.followers.get(tag.unique) == task_id:
                del self.followers[tag.unique]
        self.signal_all(task_id, tag, state, value)

    # lua/step/cancelling.lua

    def signal_cancelled(self, task_id: str, why: str) -> None:
        """A signal from the task itself, which ends it as cancelled when it is relayed."""
        self.outbox.append(Signal(self.name, task_id, 0, task_id, "cancelled", why.encode(), self.name))

    # lua/queue/unknown.lua

    def is_unknown(self, task_id: str) -> bool:
        """Whether nothing is known of a task: no other worker has it or will get it."""
        return task_id not in self.owners and task_id not in self.tasks and task_id not in self.letters

    # lua/queue/ending.lua

    def withdraw(self, task_id: str) -> None:
        """Remove a task from the structure in which it waits."""
        tag = self.tags.get(task_id)
        limit = tag.limit if tag is not None else None
        if task_id in self.gathering:
            self.drop_gathered(task_id)
            return
        if limit is not None and task_id in self.parked.get(limit, ()):
            self.leave_parked(limit, task_id)
            return
        due = self.delayed.score(task_id)
        if due is not None:
            self.delayed.remove(task_id)
            # One that is overdue has counted as ready since its time came (`stats`).
            if due <= self.now and not self.is_counted(task_id):
                self.counts["deferred"] -= 1
            return
        if not self.fair.remove(task_id):
            self.counts["removed"] += 1  # its id stays in `ready`
        elif not self.fair:
            self.end_turns()
        # The task may have become ready for a free slot, which another task can use now.
        if limit is not None and self.is_parked(limit):
            self.retry_at.add(limit, self.now)
            self.call_a_worker()

    def forget(self, task_id: str) -> None:
        """Drop the records of an unfinished task."""
        del self.tasks[task_id]
        self.histories.pop(task_id, None)
        self.reports.pop(task_id, None)
        self.errors.pop(task_id, None)

    def announce_end(self, task_id: str) -> None:
        """Publish the end of a task, if a client waits for it."""
        if task_id in self.announced:
            self.announced.discard(task_id)
            self.said.append(("done", task_id))

    def end_waiting(self, task_id: str, record: bytes, ttl_ms: int, reason: bytes) -> None:
        """End a waiting task, with `record` as its result. `reason` is for the tasks that wait for it."""
        self.withdraw(task_id)
        self.forget(task_id)
        self.keep_result(task_id, record, ttl_ms)
        self.counts["finished"] += 1
        self.counts["unrun"] += 1
        self.counts["cancelled"] += 1
        self.release(task_id, "cancelled", reason)
        self.announce_end(task_id)

    # lua/queue/length.lua, adding.lua

    def waiting_tasks(self) -> int:
        """The number of waiting tasks, for any reason."""
        parked = sum(len(ids) for ids in self.parked.values())
        listed = len(self.ready) - self.counts["removed"]
        return listed + len(self.fair) + len(self.delayed) + parked + len(self.blocked)

    def in_the_way(self, holder: str | None, key: str, mode: str) -> str | None:
        """The task of a unique key that keeps a new task out, or that a new task replaces.

        The newest waiting task is replaced. A running task is not, so a new task follows it.
        """
        if holder is None or mode == KEEP_EXISTING:
            return holder
        return self.follower_of(key) or (None if holder in self.owners else holder)

    def due_again(self, task_id: str) -> int | None:
        """The due time of a waiting task, for the task that replaces it; `None` when its workflow decides."""
        if task_id in self.gathering:
            return None
        tag = self.tags.get(task_id)
        if tag is not None and tag.due is not None:
            return tag.due
        return int(self.delayed.score(task_id) or 0)

    def put(self, task_id: str, envelope: bytes, extras: Extras | None, due: int, *, follows: bool) -> None:
        """Add a task. `due` is in ms, 0 for at once; `follows` says that another task holds its unique key.

        The stamp before the envelope is the time when the task was accepted, from which the age of the head is
        computed.
        """
        self.tasks[task_id] = struct.pack(">d", self.now) + envelope
        extras = extras or Extras()
        if extras.unique_key is not None:
            (self.followers if follows else self.unique)[extras.unique_key] = task_id
        tag = None
        if extras.has_keys or extras.edges:
            tag = self.tags[task_id] = Tag(extras.unique_key, extras.limit_key, extras.fair_key, list(extras.edges))
            if follows:
                tag.due = due if extras.waits is None and due > self.now else 0
        if extras.waits is not None:
            self.block(
                task_id, extras.waits.pending, extras.waits.carried, max(0, due - self.now),
                extras.waits.unconfirmed_ms,
            )  # fmt: skip
            self.counts["deferred"] += 1
        elif due > self.now or follows:
            first = self.delayed.first_score()
            if due > self.now:
                self.counts["deferred"] += 1
            else:
                due = self.now + AGAIN_MS
            self.delayed.add(task_id, due)
            # Idle workers sleep until the first due time that they know: one is notified about an earlier one.
            if first is None or due < first:
                self.call_a_worker()
        else:
            self.make_ready(task_id, tag)
            self.call_a_worker()

    # Results, which Redis keeps under keys with a time to live.

    def keep_result(self, task_id: str, record: bytes, ttl_ms: int, *, unless_there: bool = False) -> None:
        if unless_there and self.result_of(task_id) is not None:
            return
        if len(self.results) % 1000 == 999:
            self.results = {i: (kept, until) for i, (kept, until) in self.results.items() if until > self.now}
        self.results[task_id] = (record, self.now + ttl_ms)

    def result_of(self, task_id: str) -> bytes | None:
        record, until = self.results.get(task_id, (b"", 0))
        return record if until > self.now else None
