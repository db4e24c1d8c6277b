"""Record outcomes and claim work: lua/step.lua in plain Python, in the same order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgpack

from taskfleet.memory.state import SIGNALLED_AGAIN_MS, Gathering, Letter, Progress, QueueState, Tag
from taskfleet.protocol.claim import TAKEOVERS_PER_STEP, Claim, StepReply, Takeover
from taskfleet.protocol.outcome import Outcome

if TYPE_CHECKING:
    from taskfleet.options import QueueOptions

_LOOKED_AT = 2000  # the most that one claim looks at
_MOST_CLAIMED = 1000
_MOST_DUE = 500


class Step:
    """One step call. `run` may be called once."""

    def __init__(self, state: QueueState, options: QueueOptions, owner: str, wanted: int) -> None:
        self._state = state
        self._options = options
        self._owner = owner
        self._wanted = wanted
        self._ended: list[tuple[str, str, bytes]] = []  # id, how, and what those that wait for it are told
        self._freed: dict[str, int] = {}  # limit key → slots
        self._buried = False
        self._taken_over: list[Takeover] = []
        self._turn_served: float | None = None

        limit = options.rate_limit_per_key
        self._interval = 1000 / limit.tasks_per_second if limit else 0
        self._tolerance = self._interval * ((limit.burst if limit else 0) - 1)

    def run(self, outcomes: Sequence[Outcome]) -> StepReply:
        state = self._state
        stale = self._record(outcomes)
        self._take_over()
        self._end()
        self._move_due()
        if self._buried:
            self._trim_dead()
        for key, n in self._freed.items():
            state.unpark(key, n)
        may_start = min(self._wanted, _MOST_CLAIMED)
        if self._options.concurrency:
            may_start = min(may_start, self._options.concurrency - len(state.leases))
        tokens = self._tokens()
        if tokens is not None:
            may_start = min(may_start, math.floor(tokens))
        self._let_keys_retry()
        self._drop_unconfirmed()
        claims = self._claim(may_start)
        next_token = None if tokens is None else self._pay(tokens - len(claims))
        return self._reply(stale, claims, next_token)

    # What has ended.

    def _record(self, outcomes: Sequence[Outcome]) -> int:
        """Record what comes under a valid token; returns how many did not."""
        state = self._state
        # First deliveries that succeeded and keep no result come before all others.
        plain = [o for o in outcomes if o[2] == "s" and o[1] == 1 and not o[4]]
        others = [o for o in outcomes if not (o[2] == "s" and o[1] == 1 and not o[4])]
        stale = 0
        for task_id, *_ in plain:
            if state.owners.get(task_id) == (self._owner, 1):
                self._free(task_id)
                self._ended.append((task_id, "succeeded", b""))
            else:
                stale += 1
        state.counts["finished"] += len(self._ended)
        if self._ended:
            state.counts["busy_ms"] += sum(o[3] for o in plain)
        for outcome in others:
            if state.owners.get(outcome[0]) == (self._owner, outcome[1]):
                self._record_one(outcome)
            else:
                stale += 1
        return stale

    def _record_one(self, outcome: Outcome) -> None:
        state = self._state
        task_id, delivery, code, busy_ms, result, ttl_ms, extra = outcome
        state.counts["busy_ms"] += busy_ms
        if code != "s" and task_id in state.cancelling:
            state.cancelling.discard(task_id)
            # Older workers give no such record for these two: then they are recorded as what they are.
            if not ((code == "x" and not extra) or (code == "d" and not result)):
                result = extra if code == "x" else result
                code = "c"
        self._free(task_id)
        if code in "rn":
            self._put_back(task_id, delivery, code, extra)
            return
        state.counts["finished"] += 1
        if code in "fd":
            attempt = state.progress_of(task_id).attempt
            self._bury(task_id, "failed" if code == "f" else "dead", attempt, delivery, extra)
            return
        if result and ttl_ms > 0:
            state.keep_result(task_id, result, ttl_ms)
        how = {"s": "succeeded", "c": "cancelled", "x": "expired"}[code]
        if how != "succeeded":
            state.counts[how] += 1
        self._ended.append((task_id, how, result))

    def _put_back(self, task_id: str, delivery: int, code: str, delay_ms: int) -> None:
        state = self._state
        before = state.progress_of(task_id)
        progress = Progress(before.attempt, delivery, before.crashes, before.since_ms)
        if code == "r":
            progress.attempt, progress.crashes = before.attempt + 1, 0
            state.counts["retried"] += 1
        if delay_ms > 0:
            progress.since_ms = 0
            state.progress[task_id] = progress
            state.delayed.add(task_id, state.now + delay_ms)
        elif code == "r":
            state.place_at_tail(task_id, progress)
        else:
            state.progress[task_id] = progress
            state.place(task_id, state.tags.get(task_id), head=True)

    def _free(self, task_id: str) -> None:
        """A lease is gone, and with it the slot of its limit key."""
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

    def _bury(self, task_id: str, why: str, attempt: int, delivery: int, record: bytes) -> None:
        state = self._state
        tag = state.tags.get(task_id) or Tag()
        state.letters[task_id] = Letter(
            why, attempt, delivery, state.now, state.tasks.get(task_id, b""), record,
            tag.limit, tag.fair, state.inputs.get(task_id), tag.unique,
        )  # fmt: skip
        state.dead.add(task_id, state.now)
        state.counts["failed"] += 1
        self._ended.append((task_id, why, record))
        self._buried = True

    def _take_over(self) -> None:
        """Leases that ended without an outcome: their worker is gone. The task goes to the head, or is buried."""
        state = self._state
        for task_id in reversed(state.leases.up_to(state.now, TAKEOVERS_PER_STEP)):
            _, delivery = state.owners[task_id]
            self._free(task_id)
            before = state.progress_of(task_id)
            crashes = before.crashes + 1
            dead = task_id not in state.cancelling and crashes >= self._options.max_deliveries
            head = state.tasks.get(task_id, b"")
            self._taken_over.append(Takeover.of_head(task_id, head, before.attempt, crashes, dead))
            if task_id in state.cancelling:
                state.cancelling.discard(task_id)
                # Its result key is not the script's to name: whoever relays its own signal ends it.
                state.gathering[task_id] = Gathering(1, 1, 0, 0)
                state.blocked.add(task_id, state.now + SIGNALLED_AGAIN_MS)
                state.signal_cancelled(task_id, "cancelled while it ran")
            elif dead:
                record = _record("max_deliveries", f"its worker died {crashes} times while it ran")
                self._bury(task_id, "dead", before.attempt, delivery, record)
                state.counts["finished"] += 1
            else:
                state.progress[task_id] = Progress(before.attempt, delivery, crashes, state.now)
                state.place(task_id, state.tags.get(task_id), head=True)
                state.counts["taken_over"] += 1

    def _end(self) -> None:
        state = self._state
        for task_id, _, _ in self._ended:
            state.forget(task_id)
            state.cancelling.discard(task_id)
        for task_id, how, value in self._ended:
            state.release(task_id, how, value)
            state.announce_end(task_id)

    def _move_due(self) -> None:
        state = self._state
        for task_id in state.delayed.up_to(state.now, min(max(self._wanted, 100), _MOST_DUE)):
            state.delayed.remove(task_id)
            state.place_due(task_id, state.progress_of(task_id))

    def _trim_dead(self) -> None:
        """Dead letters beyond their number or age: a bounded few at a time."""
        state, kept = self._state, self._options.dead_letter
        old = state.dead.up_to(state.now - int(kept.ttl_seconds * 1000), 100)
        extra = len(state.dead) - len(old) - kept.max_length
        for task_id in old + state.dead.first(min(extra, 100), start=len(old)):
            state.dead.remove(task_id)
            del state.letters[task_id]

    # What may start.

    def _tokens(self) -> float | None:
        """The tokens of the queue's rate limit, filled up to now."""
        state, limit = self._state, self._options.rate_limit
        if limit is None or self._wanted <= 0:
            return None
        if state.tokens is None:
            return limit.burst
        came = max(0, state.now - state.filled_ms) * limit.tasks_per_second / 1000
        return min(limit.burst, state.tokens + came)

    def _pay(self, tokens: float) -> int | None:
        """Keep what is left; returns in how many ms there is a whole token, if there is none now."""
        assert self._options.rate_limit is not None
        self._state.tokens = float(f"{tokens:.14g}")  # the digits that Lua writes
        self._state.filled_ms = self._state.now
        return math.ceil((1 - tokens) * 1000 / self._options.rate_limit.tasks_per_second) if tokens < 1 else None

    def _let_keys_retry(self) -> None:
        """Limit keys whose next token has come: as many of their tasks come in as may start."""
        state, now = self._state, self._state.now
        for key in state.retry_at.up_to(now, 100):
            state.retry_at.remove(key)
            free = 1000
            if self._interval > 0:
                arrival = max(now, state.arrivals.score(key) or 0)
                free = min(free, math.floor((now + self._tolerance - arrival) / self._interval) + 1)
            slots = self._options.concurrency_per_key
            slots_left = slots - state.slots[key] if slots else 1001
            if min(free, slots_left) > 0:
                state.unpark(key, min(free, slots_left))
            # Where slots are what is short, each that comes free lets the next one in.
            if free < slots_left and key in state.parked:
                state.retry_at.add(key, now + max(1, self._interval))
        for key in state.arrivals.up_to(now, 100):
            state.arrivals.remove(key)

    def _drop_unconfirmed(self) -> None:
        """A workflow whose sender died before it was whole."""
        state = self._state
        for task_id in state.blocked.up_to(state.now, 10):
            state.blocked.add(task_id, state.now + SIGNALLED_AGAIN_MS)
            state.signal_cancelled(task_id, "its workflow was never sent whole")

    def _admitted(self, task_id: str, key: str) -> bool:
        """Whether a task's limit key lets it start; if not, it waits in `parked`."""
        state, now = self._state, self._state.now
        slots = self._options.concurrency_per_key
        if slots and state.slots[key] >= slots:
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

    # The claim.

    def _take(self, n: int) -> list[str]:
        state = self._state
        ids = [state.ready.popleft() for _ in range(min(n, len(state.ready)))]
        for task_id, turn in state.fair.pop_first(n - len(ids)):
            ids.append(task_id)
            self._turn_served = turn
        return ids

    def _claim(self, may_start: int) -> list[Claim]:
        state = self._state
        claims: list[Claim] = []
        looked = 0
        while not state.paused and len(claims) < may_start and looked < _LOOKED_AT:
            ids = self._take(may_start - len(claims))
            if not ids:
                break
            looked += len(ids)
            for task_id in ids:
                tag = state.tags.get(task_id)
                if task_id not in state.tasks:
                    state.counts["removed"] -= 1  # cancelled while it waited: only its place was left
                elif tag is None or tag.limit is None or self._admitted(task_id, tag.limit):
                    progress = state.progress_of(task_id)
                    delivery = progress.delivery + 1
                    claims.append(
                        (state.name, task_id, state.tasks[task_id], progress.attempt, delivery,
                         state.inputs.get(task_id))
                    )  # fmt: skip
        for _, task_id, _, _, delivery, _ in claims:
            state.leases.add(task_id, state.now + int(self._options.lease_seconds * 1000))
            state.owners[task_id] = (self._owner, delivery)
        # All that was let in is claimed, and there are slots left: the limit was raised, so more may come in.
        slots = self._options.concurrency_per_key
        if slots and len(claims) < may_start and not state.paused:
            for key in self._freed:
                if state.slots[key] < slots and key in state.parked:
                    state.retry_at.add(key, state.now)
        if self._turn_served is not None:
            if not state.fair:
                state.end_turns()
            else:
                state.turn = self._turn_served
                for key in state.turns.up_to(state.turn, 100):
                    state.turns.remove(key)
        return claims

    def _reply(self, stale: int, claims: list[Claim], next_token: int | None) -> StepReply:
        state = self._state
        waiting = len(state.ready) + len(state.fair)
        lease_end = state.leases.first_score()
        events = [state.delayed.first_score(), state.retry_at.first_score(), state.blocked.first_score()]
        # A lease is taken over in the millisecond after its end.
        times = [max(0, at - state.now) for at in events if at is not None and at < 1e15]
        if lease_end is not None:
            times.append(max(0, lease_end - state.now) + 1)
        if waiting and next_token is not None:
            # Nothing is worth asking for before the next token: say so in place of "there is more".
            waiting = 0
            times.append(next_token)
        paused = self._wanted > 0 and state.paused
        if paused or (self._options.concurrency and len(state.leases) >= self._options.concurrency):
            waiting = 0
        # A worker that is full now wakes the next one, which learns what is left and what is due.
        if len(claims) >= self._wanted and (waiting or state.delayed):
            state.call_a_worker()
        return StepReply(
            waiting, int(min(times)) if times else -1, stale, claims, len(state.outbox), False, self._taken_over or ()
        )


def _record(reason: str, error: str) -> bytes:
    return cast("bytes", msgpack.packb([reason, error, ""]))
