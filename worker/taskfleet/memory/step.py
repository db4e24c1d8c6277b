"""A step: it records outcomes and claims tasks. The acts of lua/step.lua in Python, with the same order and names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgpack

from taskfleet.memory.records import AttemptHistory, Letter, Tag
from taskfleet.memory.state import SIGNALLED_AGAIN_MS, QueueState
from taskfleet.protocol.attempt_errors import StoredError
from taskfleet.protocol.claim import TAKEOVERS_PER_STEP, Claim, StepReply, Takeover
from taskfleet.protocol.outcome import CANCELLED, DEAD, EXPIRED, FAILED, NAMES, RETRIED, RETURNED, SUCCEEDED, Outcome

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions

_MOST_CLAIMED = 1000
_MOST_LOOKED_AT = 2000  # ids that one claim examines, including those of cancelled tasks
_MOST_DUE = 500


class Step:
    """One step call. `run` may be called once; its acts share values in the attributes of the call."""

    def __init__(self, state: QueueState, options: QueueOptions, owner: str, wanted: int) -> None:
        self._state = state
        self._options = options
        self._owner = owner
        self._wanted = wanted
        self._ended: list[tuple[str, str, bytes]] = []  # id, state at its end, and the value for tasks that wait for it
        self._stale = 0  # outcomes of tasks that this worker no longer holds
        self._unknown = 0  # of these, tasks of which nothing is known
        self._buried = False
        self._freed: dict[str, int] = {}  # limit key → slots that became free
        self._taken_over: list[Takeover] = []
        self._may_start = 0
        self._tokens_left: float | None = None  # of the queue's rate limit
        self._claims: list[Claim] = []
        self._turn_served: float | None = None
        self._horizon_ms = math.inf  # until the next event

        limit = options.rate_limit_per_key
        self._key_slots = options.concurrency_per_key
        self._interval = 1000 / limit.tasks_per_second if limit else 0
        self._tolerance = self._interval * ((limit.burst if limit else 0) - 1)

    def run(self, outcomes: Sequence[Outcome]) -> StepReply:
        self._record(outcomes)
        self._take_over()
        self._end()
        self._move_due()
        self._trim_dead()
        self._apply_limits()
        self._claim()
        return self._reply()

    def _ends(self, task_id: str, state: str, value: bytes) -> None:
        self._ended.append((task_id, state, value))

    # lua/step/bury.lua, slots.lua

    def _bury(self, task_id: str, state: str, attempt: int, delivery: int, record: bytes) -> None:
        """Make a task a dead letter, with all data that it needs to run again."""
        queue = self._state
        tag = queue.tags.get(task_id) or Tag()
        queue.letters[task_id] = Letter(
            state, attempt, delivery, queue.now, queue.tasks.get(task_id, b""), record,
            tag.limit, tag.fair, queue.inputs.get(task_id), tag.unique, queue.errors.get(task_id, []),
        )  # fmt: skip
        queue.dead.add(task_id, queue.now)
        queue.counts["failed"] += 1
        self._ends(task_id, state, record)
        self._buried = True

    def _free_slot(self, task_id: str) -> None:
        """Free the slot of a limit key when its task's lease is gone."""
        state = self._state
        state.leases.remove(task_id)
        del state.owners[task_id]
        tag = state.tags.get(task_id)
        if tag is None or tag.limit is None:
            return
        state.slots[tag.limit] -= 1
        if state.slots[tag.limit] <= 0:
            del state.slots[tag.limit]
        self._freed[tag.limit] = self._freed.get(tag.limit, 0) + 1

    def _let_in(self) -> None:
        """Make as many parked tasks of a key ready as slots became free."""
        for key, n in self._freed.items():
            self._state.unpark(key, n)

    # lua/step/record.lua

    def _record(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes with a valid fencing token."""
        state = self._state
        # First deliveries that succeeded without a result to keep come before all others.
        done: list[Outcome] = []
        others: list[Outcome] = []
        for outcome in outcomes:
            _, delivery, code, _, result, _, _ = outcome
            (done if code == SUCCEEDED and delivery == 1 and not result else others).append(outcome)
        busy_ms = 0
        for task_id, _, _, task_busy_ms, _, _, _ in done:
            busy_ms += task_busy_ms
            if state.owners.get(task_id) == (self._owner, 1):
                self._free_slot(task_id)
                self._ends(task_id, NAMES[SUCCEEDED], b"")
            else:
                self._is_stale(task_id)
        if self._ended:
            state.counts["finished"] += len(self._ended)
            state.counts["busy_ms"] += busy_ms
        for outcome in others:
            task_id, delivery, code, task_busy_ms, result, ttl_ms, _ = outcome
            if state.owners.get(task_id) == (self._owner, delivery):
                state.counts["busy_ms"] += task_busy_ms
                self._record_one(outcome)
            elif self._is_stale(task_id) and code == SUCCEEDED and result and ttl_ms > 0:
                state.keep_result(task_id, result, ttl_ms, unless_there=True)

    def _is_stale(self, task_id: str) -> bool:
        """Count an outcome without effect; returns whether nothing is known of its task."""
        self._stale += 1
        unknown = self._state.is_unknown(task_id)
        self._unknown += unknown
        return unknown

    def _record_one(self, outcome: Outcome) -> None:
        state = self._state
        task_id, delivery, code, ran_ms, result, ttl_ms, extra = outcome
        # An expired or unreadable task did not run, nor did one that was cancelled before it took any time.
        unrun = code in (EXPIRED, DEAD) or (code in (CANCELLED, RETURNED) and not ran_ms)
        if code != SUCCEEDED and task_id in state.cancelling:
            state.cancelling.discard(task_id)
            # Workers of older versions send no record of a cancellation with these two: they are recorded as they are.
            without_record = (code == EXPIRED and not extra) or (code == DEAD and not result)
            if not without_record:
                result = extra if code == EXPIRED else result
                code = CANCELLED
        self._free_slot(task_id)
        if code in (RETRIED, RETURNED):
            self._put_back(task_id, delivery, code, extra)
            return
        state.counts["finished"] += 1
        if unrun:
            state.counts["unrun"] += 1
        if code in (FAILED, DEAD):
            self._bury(task_id, NAMES[code], state.history_of(task_id).attempt, delivery, extra)
            return
        if result and ttl_ms > 0:
            state.keep_result(task_id, result, ttl_ms)
        if code != SUCCEEDED:
            state.counts[NAMES[code]] += 1
        self._ends(task_id, NAMES[code], result)

    def _put_back(self, task_id: str, delivery: int, code: str, extra: Any) -> None:
        """Return a task that is run again: after its retry delay, or because it was handed back."""
        state = self._state
        before = state.history_of(task_id)
        history = AttemptHistory(before.attempt, delivery, before.crashes, before.since_ms)
        delay_ms, failure = extra if isinstance(extra, tuple) else (extra, b"")
        if code == RETRIED:
            if failure:
                error = StoredError(before.attempt, state.now, state.now + delay_ms, failure, "")
                state.note_error(task_id, state.errors.get(task_id, []), error)
            history.attempt, history.crashes = before.attempt + 1, 0
            state.counts["retried"] += 1
        if delay_ms > 0:
            history.since_ms = 0
            state.histories[task_id] = history
            state.delayed.add(task_id, state.now + delay_ms)
        elif code == RETRIED:
            state.counts["deferred"] -= 1
            state.make_ready_at_tail(task_id, history)
        else:
            state.histories[task_id] = history
            state.make_ready(task_id, state.tags.get(task_id), head=True)

    # lua/step/take_over.lua

    def _take_over(self) -> None:
        """Take over the tasks whose lease has expired without an outcome: their worker is gone."""
        state = self._state
        for task_id in reversed(state.leases.up_to(state.now, TAKEOVERS_PER_STEP)):
            owner, delivery = state.owners[task_id]
            self._free_slot(task_id)
            before = state.history_of(task_id)
            crashes = before.crashes + 1
            cancelled = task_id in state.cancelling
            dies = not cancelled and crashes >= self._options.max_deliveries
            lost = _error_record("worker_lost", "its worker was lost while it ran")
            next_ms = 0 if crashes >= self._options.max_deliveries else state.now
            error = StoredError(before.attempt, state.now, next_ms, lost, owner)
            state.note_error(task_id, state.errors.get(task_id, []), error)
            head = state.tasks.get(task_id, b"")
            self._taken_over.append(Takeover.of_head(task_id, head, before.attempt, crashes, dies))
            if cancelled:
                state.cancelling.discard(task_id)
                # A script may not touch the task's result key: the client that relays the signal ends the task.
                state.block(task_id, 1, 0, 0, SIGNALLED_AGAIN_MS)
                state.signal_cancelled(task_id, "cancelled while it ran")
            elif dies:
                record = _error_record("max_deliveries", f"its worker died {crashes} times while it ran")
                self._bury(task_id, NAMES[DEAD], before.attempt, delivery, record)
                state.counts["finished"] += 1
                state.counts["unrun"] += 1
            else:
                state.histories[task_id] = AttemptHistory(before.attempt, delivery, crashes, state.now)
                state.make_ready(task_id, state.tags.get(task_id), head=True)
                state.counts["taken_over"] += 1
                state.counts["deferred"] -= 1

    # lua/step/end.lua, move_due.lua, trim_dead.lua

    def _end(self) -> None:
        """Delete the tasks that have ended, signal the tasks that wait for them, and publish the ends."""
        state = self._state
        for task_id, _, _ in self._ended:
            state.forget(task_id)
            state.cancelling.discard(task_id)
        for task_id, how, value in self._ended:
            state.release(task_id, how, value)
            state.announce_end(task_id)

    def _move_due(self) -> None:
        """Make the delayed tasks ready that are due."""
        state = self._state
        for task_id in state.delayed.up_to(state.now, min(max(self._wanted, 100), _MOST_DUE)):
            state.delayed.remove(task_id)
            if not state.is_counted(task_id):
                state.counts["deferred"] -= 1
            state.come_due(task_id, state.history_of(task_id))

    def _trim_dead(self) -> None:
        """Delete dead letters beyond the number or age that the queue keeps, a bounded number in each call."""
        if not self._buried:
            return
        state, kept = self._state, self._options.dead_letter
        old = state.dead.up_to(state.now - int(kept.ttl_seconds * 1000), 100)
        extra = len(state.dead) - len(old) - kept.max_length
        for task_id in old + state.dead.first(min(extra, 100), start=len(old)):
            state.dead.remove(task_id)
            del state.letters[task_id]

    # lua/step/apply_limits.lua

    def _apply_limits(self) -> None:
        """Limit the number of tasks that may start to the limits of the queue."""
        state, options = self._state, self._options
        self._let_in()
        self._may_start = min(self._wanted, _MOST_CLAIMED)
        if options.concurrency:
            self._may_start = min(self._may_start, options.concurrency - len(state.leases))
        if options.rate_limit is not None and self._wanted > 0:
            rate, burst = options.rate_limit.tasks_per_second, options.rate_limit.burst
            came = max(0, state.now - state.filled_ms) * rate / 1000
            self._tokens_left = burst if state.tokens is None else min(burst, state.tokens + came)
            self._may_start = min(self._may_start, math.floor(self._tokens_left))
        self._let_keys_retry()
        self._drop_unconfirmed()

    def _let_keys_retry(self) -> None:
        """Make tasks ready whose limit key may be tried again, for each key as many as may start."""
        state, now = self._state, self._state.now
        for key in state.retry_at.up_to(now, 100):
            state.retry_at.remove(key)
            free = 1000
            if self._interval > 0:
                arrival = max(now, state.arrivals.score(key) or 0)
                free = min(free, math.floor((now + self._tolerance - arrival) / self._interval) + 1)
            slots_left = self._key_slots - state.slots[key] if self._key_slots else 1001
            if min(free, slots_left) > 0:
                state.unpark(key, min(free, slots_left))
            # If slots are the limit, each slot that becomes free lets the next task in.
            if free < slots_left and state.is_parked(key):
                state.retry_at.add(key, now + max(1, self._interval))
        for key in state.arrivals.up_to(now, 100):
            state.arrivals.remove(key)

    def _drop_unconfirmed(self) -> None:
        """Delete the tasks of a workflow whose sender died before it was complete."""
        state = self._state
        for task_id in state.blocked.up_to(state.now, 10):
            state.blocked.add(task_id, state.now + SIGNALLED_AGAIN_MS)
            state.signal_cancelled(task_id, "its workflow was never sent whole")

    # lua/step/claim.lua

    def _take(self, n: int) -> list[str]:
        state = self._state
        ids = [state.ready.popleft() for _ in range(min(n, len(state.ready)))]
        for task_id, turn in state.fair.pop_first(n - len(ids)):
            ids.append(task_id)
            self._turn_served = turn
        return ids

    def _admitted(self, task_id: str, key: str) -> bool:
        """Whether the limit key of a task lets it start. If not, the task is parked."""
        state, now = self._state, self._state.now
        if self._key_slots and state.slots[key] >= self._key_slots:
            state.park(task_id, key)
            return False
        if self._interval > 0:
            arrival = max(now, state.arrivals.score(key) or 0)
            if arrival > now + self._tolerance:
                state.park(task_id, key)
                state.retry_at.add(key, math.ceil(arrival - self._tolerance))
                return False
            state.arrivals.add(key, arrival + self._interval)
        state.slots[key] += 1
        return True

    def _claim(self) -> None:
        """Claim up to `may_start` tasks, each with a lease and a fencing token."""
        state, claims = self._state, self._claims
        looked = 0
        while not state.paused and len(claims) < self._may_start and looked < _MOST_LOOKED_AT:
            ids = self._take(self._may_start - len(claims))
            if not ids:
                break
            looked += len(ids)
            for task_id in ids:
                tag = state.tags.get(task_id)
                if task_id not in state.tasks:
                    state.counts["removed"] -= 1  # the id of a task that was cancelled while it was ready
                elif tag is None or tag.limit is None or self._admitted(task_id, tag.limit):
                    history = state.history_of(task_id)
                    delivery = history.delivery + 1
                    state.leases.add(task_id, state.now + int(self._options.lease_seconds * 1000))
                    state.owners[task_id] = (self._owner, delivery)
                    claims.append(
                        (state.name, task_id, state.tasks[task_id], history.attempt, delivery,
                         state.inputs.get(task_id), history.since_ms)
                    )  # fmt: skip
        # All admitted tasks are claimed and slots are left: the limit was raised, so more tasks can be admitted.
        if self._key_slots and len(claims) < self._may_start and not state.paused:
            for key in self._freed:
                if state.slots[key] < self._key_slots and state.is_parked(key):
                    state.retry_at.add(key, state.now)
        if self._turn_served is not None:
            if not state.fair:
                state.end_turns()
            else:
                state.turn = self._turn_served
                for key in state.turns.up_to(state.turn, 100):
                    state.turns.remove(key)
        if self._tokens_left is not None:
            self._tokens_left -= len(claims)
            state.tokens = float(f"{self._tokens_left:.14g}")  # the digits that Lua writes
            state.filled_ms = state.now

    # lua/step/reply.lua

    def _expect(self, at_ms: float | None, slack_ms: int) -> None:
        """The next event is `slack_ms` after the time `at_ms`, or earlier."""
        if at_ms is not None and at_ms < 1e15:
            self._horizon_ms = min(self._horizon_ms, max(0, at_ms - self._state.now) + slack_ms)

    def _reply(self) -> StepReply:
        """The reply: the claims, the number of tasks that can be claimed at once, and the time of the next event."""
        state, options = self._state, self._options
        waiting = len(state.ready) + len(state.fair)
        self._expect(state.delayed.first_score(), 0)
        self._expect(state.leases.first_score(), 1)  # a lease is taken over in the millisecond after its end
        self._expect(state.retry_at.first_score(), 0)
        self._expect(state.blocked.first_score(), 0)
        # Before the next token, or before a running task ends, no task can be claimed: the reply reports this.
        if waiting and options.rate_limit is not None and self._tokens_left is not None and self._tokens_left < 1:
            waiting = 0
            wait_ms = math.ceil((1 - self._tokens_left) * 1000 / options.rate_limit.tasks_per_second)
            self._expect(state.now + wait_ms, 0)
        paused = self._may_start > 0 and state.paused
        if paused or (options.concurrency and len(state.leases) >= options.concurrency):
            waiting = 0
        # A worker that is full now notifies the next one, which learns the ready tasks and the next due time.
        if len(self._claims) >= self._wanted and (waiting or state.delayed):
            state.call_a_worker()
        return StepReply(
            waiting,
            int(self._horizon_ms) if self._horizon_ms < math.inf else -1,
            self._stale,
            self._claims,
            len(state.outbox),
            False,
            self._taken_over or (),
            self._unknown,
        )


def _error_record(reason: str, error: str) -> bytes:
    return cast("bytes", msgpack.packb([reason, error, ""]))
