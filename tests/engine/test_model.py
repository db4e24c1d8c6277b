"""The Lua scripts on a real Redis against the plain Python model: the same calls, the same replies, the same state.

`TASKFLEET_HYPOTHESIS=deep` looks for much longer, and somewhere else every time.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from taskfleet import DeadLetterOptions, QueueFullError, QueueOptions, RateLimit, ids
from taskfleet.protocol import attempt_errors, dead_letter, dead_record, result_record
from taskfleet.protocol.broker import Broker
from taskfleet.protocol.claim import CLAIM_DELIVERY, CLAIM_ID
from taskfleet.protocol.item import ITEM_ID, KEEP_EXISTING, Edge, Extras, Item, Waits
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.task_record import Inspection, Place, Structure, TaskRecord
from taskfleet.redis import scripts
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.connection_options import ConnectionOptions
from taskfleet.redis.renewal import RedisRenewer
from taskfleet.testing import InMemoryBroker
from tests.support import snapshots
from tests.support.redis_server import RedisServer
from tests.support.scripted_clock import TimedClient, timed

T = TypeVar("T")

QUEUES = ("a", "b")
_ENDLESS_MS = 10**12  # Redis forgets by its own clock: nothing may be forgotten here
_OPTIONS = (
    QueueOptions("q", lease_seconds=1),
    QueueOptions("q", lease_seconds=1, max_deliveries=1),
    QueueOptions("q", concurrency=2),
    QueueOptions("q", concurrency_per_key=1),
    QueueOptions("q", concurrency_per_key=2, rate_limit_per_key=RateLimit(3, 2)),
    QueueOptions("q", rate_limit_per_key=RateLimit(7, 1)),
    QueueOptions("q", rate_limit=RateLimit(3, 2)),
    QueueOptions("q", dead_letter=DeadLetterOptions(max_length=1)),
    QueueOptions("q", dead_letter=DeadLetterOptions(ttl_seconds=1)),
)
_RESULT = result_record.pack_success(b"\x01")
_CANCELLED = result_record.pack_cancelled("cancelled while it ran")
_EXPIRED = result_record.pack_expired("it expired before it ran")
_FAILURE = dead_record.pack_failure("exception", "ValueError: no", "")

_queue = st.sampled_from(QUEUES)
_owner = st.sampled_from(["w1", "w2"])
_options = st.sampled_from(_OPTIONS)
_pick = st.integers(0, 30)  # the position among the tasks that exist at that time
_delay = st.sampled_from([0, 0, 0, 40, 1500])
_unique = st.one_of(st.none(), st.tuples(st.sampled_from(["u1", "u2"]), st.sampled_from("krd")))
_keys = st.tuples(
    st.one_of(st.none(), st.sampled_from(["l1", "l2"])), st.one_of(st.none(), st.sampled_from(["f1", "f2"]))
)


def _extras_of(unique: tuple[str, str] | None, keys: tuple[str | None, str | None]) -> Extras | None:
    limit, fair = keys
    if unique is None:
        return Extras(limit_key=limit, fair_key=fair) if limit or fair else None
    key, mode = unique
    if mode == KEEP_EXISTING:
        return Extras(key, mode, limit, fair)
    return Extras(key, mode, limit, fair, replaced_record=_CANCELLED, replaced_ttl_ms=_ENDLESS_MS)


_extras = st.builds(_extras_of, _unique, _keys)
_rounds = st.lists(
    st.tuples(_pick, st.sampled_from("srrnfx"), st.sampled_from([0, 0, 30]), st.integers(0, 4)), min_size=2, max_size=8
)
_specs = st.lists(st.tuples(_delay, _extras), min_size=1, max_size=5)
_outcomes = st.lists(
    st.tuples(_pick, st.sampled_from("sssrnfdcx"), st.booleans(), st.sampled_from([0, 0, 30, 900])), max_size=4
)


_STRUCTURES: tuple[Structure, ...] = ("lease", "ready", "fair", "delayed", "parked", "blocked", "dead")


def _readable(found: Inspection) -> tuple[Any, ...]:
    """An inspection in a form that is the same for both: letters are compared as they read."""

    def of(record: TaskRecord) -> TaskRecord:
        letter = repr(dead_letter.DeadLetter.of_packed("", record.record, queue="")) if record.state == "dead" else ""
        errors = repr(attempt_errors.unpack(record.errors)) if record.errors else ""
        return record._replace(
            record=letter.encode() or record.record, record_size=0 if letter else record.record_size,
            errors=errors.encode(), kept_ms=0,
        )  # fmt: skip

    tokens = None if found.tokens is None else round(found.tokens, 9)
    return (*found[:3], tokens, found.filled_ms, [of(record) for record in found.records])


class Clock:
    """A clock in Unix milliseconds that a test sets."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        return self.ms


class Pair:
    """A broker on Redis and one in memory, which must give the same replies and hold the same state."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.sound = True  # no difference has been found yet
        self._runner = asyncio.Runner()
        self.client = TimedClient(ConnectionOptions(url), self.clock)
        self.redis = RedisBroker(self.client, "model")
        self.model = InMemoryBroker(clock=self.clock)
        self._renewer = RedisRenewer(self, "model")  # type: ignore[arg-type]

    def run(self, script: Any, keys: Any, args: Any) -> Any:
        """Run a script as the client of a lease thread does."""
        return self.wait(self.client.run(script, keys, args))

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(call)

    def both(self, name: str, *args: Any, **options: Any) -> Any:
        """Call both brokers; return their reply, which must be the same."""
        replies = [self._reply(broker, name, args, options) for broker in (self.redis, self.model)]
        self.agree(f"{name}{args} {options}", *replies)
        return replies[1]

    def agree(self, what: str, redis: Any, model: Any) -> None:
        if redis != model:
            self.sound = False
            pytest.fail(f"{what}\n  Redis: {redis}\n  model: {model}")

    def _reply(self, broker: Broker, name: str, args: Any, options: Any) -> Any:
        try:
            reply = self.wait(getattr(broker, name)(*args, **options))
        except QueueFullError as error:
            return str(error)
        if isinstance(reply, tuple) and reply[0] == "dead":  # letters are the same when they read the same
            return "dead", repr(dead_letter.DeadLetter.of_packed("", reply[1], queue="")).encode()
        return reply

    def renew(self, *args: Any) -> None:
        replies = [renewer.renew(*args) for renewer in (self._renewer, self.model.renewer())]
        self.agree(f"renew{args}", *replies)

    def states(self, queue: str) -> tuple[dict[str, Any], dict[str, Any]]:
        with self.model.store.queue(queue) as model:
            expected = snapshots.of_model(model)
        return self.wait(snapshots.of_redis(self.client.redis, self.redis.keys_of(queue))), expected

    def reset(self) -> None:
        self.clock.ms = 1_700_000_000_000
        self.sound = True
        self.client.last.clear()
        self.wait(self.client.redis.flushdb())
        self.redis.list_again()
        self.redis._told.clear()  # the figures of the run before are not those of an earlier time
        self.model.forget()

    def all_keys(self) -> set[str]:
        return {key.decode() for key in self.wait(self.client.redis.keys("*"))}

    def close(self) -> None:
        self.wait(self.redis.close())
        self._runner.close()


class Machine(RuleBasedStateMachine):
    """Acts as producers, workers and operators do, in any order."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.pair = pair
        pair.reset()
        self.count = 0
        self.ids: list[tuple[str, str]] = []  # (queue, id) of every task ever sent
        self.claims: dict[str, list[tuple[str, str, int]]] = {queue: [] for queue in QUEUES}
        self.listed: dict[tuple[str, str, int], Place | None] = {}  # the last place of a listing, by broker
        self.counted: dict[str, tuple[int, int, int]] = {}  # the counters of each queue in the last figures

    # Producers.

    def _item(self, queue: str, delay: int, extras: Extras | None = None) -> Item:
        self.count += 1
        task_id = f"t{self.count:03d}"
        self.ids.append((queue, task_id))
        return task_id, b"envelope of " + task_id.encode(), delay, 0, extras

    @rule(
        queue=_queue,
        specs=st.lists(st.tuples(_delay, _extras), min_size=1, max_size=5),
        most=st.sampled_from([0, 0, 6]),
    )
    def enqueue(self, queue: str, specs: list[tuple[int, Extras | None]], most: int) -> None:
        items = [self._item(queue, delay, extras) for delay, extras in specs]
        self.pair.both("enqueue", queue, items, max_length=most)

    @rule(queue=_queue, ahead=st.sampled_from([-1000, 0, 700]), again=st.booleans())
    def enqueue_by_the_clock(self, queue: str, ahead: int, again: bool) -> None:
        task_id, blob, *_ = self._item(queue, 0)
        item = (task_id, blob, 0, self.pair.clock.ms + ahead, None)
        self.pair.both("enqueue", queue, [item, item] if again else [item])

    @rule()
    def the_last_enqueue_arrives_again(self) -> None:
        if "enqueue" in self.pair.client.last:
            self.pair.run(*self.pair.client.last["enqueue"])

    @rule(
        here=_queue, there=st.lists(_queue, min_size=1, max_size=3), carried=st.integers(0, 3), delay=_delay,
        keys=_keys, unless=st.sampled_from([0, 0, 500]),
    )  # fmt: skip
    def enqueue_workflow(
        self, here: str, there: list[str], carried: int, delay: int, keys: tuple[str | None, str | None], unless: int
    ) -> None:
        carried = min(carried, len(there))
        limit, fair = keys
        extras = Extras(limit_key=limit, fair_key=fair, waits=Waits(len(there), carried, unless))
        waits = self._item(here, delay, extras)
        self.pair.both("enqueue", here, [waits])
        for position, queue in enumerate(there):
            edge = Edge(here, waits[ITEM_ID], position, carries=position < carried)
            self.pair.both("enqueue", queue, [self._item(queue, 0, Extras(edges=[edge]))])

    @rule(here=_queue, pick=_pick, confirm=st.booleans(), carries=st.booleans(), extras=_extras)
    def enqueue_after(self, here: str, pick: int, confirm: bool, carries: bool, extras: Extras | None) -> None:
        if (some := self._some(pick)) is None:
            return
        queue, before = some
        waits = self._item(here, 0, replace(extras or Extras(), waits=Waits(1, int(carries), 800)))
        self.pair.both("enqueue", here, [waits])
        state, record = self.pair.both("link", queue, before, [Edge(here, waits[ITEM_ID], 0, carries)])
        if state in ("ended", "dead"):
            ended = state == "ended" and result_record.unpack_end(record, queue=queue, task_id=before)[0]
            how = "succeeded" if ended == result_record.SUCCEEDED else "failed"
            self.pair.both("signal", Signal(here, waits[ITEM_ID], 0, before, how, b"why"))
        if confirm and state != "unknown":
            self.pair.both("confirm", here, [waits[ITEM_ID]])

    @rule(pick=_pick)
    def cancel(self, pick: int) -> None:
        if some := self._some(pick):
            queue, task_id = some
            self.pair.both("cancel", queue, task_id, _CANCELLED, _ENDLESS_MS, "cancelled before it ran")

    @rule(pick=_pick, announce=st.booleans())
    def status(self, pick: int, announce: bool) -> None:
        if some := self._some(pick):
            queue, task_id = some
            self.pair.both("status", queue, task_id, announce=announce)

    @rule(queue=_queue, picks=st.lists(_pick, min_size=1, max_size=3), most=st.sampled_from([0, 20, 100_000]))
    def inspect(self, queue: str, picks: list[int], most: int) -> None:
        ids = [self.ids[pick % len(self.ids)][1] for pick in picks] if self.ids else ["none"]
        options = {"most_bytes": most, "line": 5}
        found = [self.pair.wait(broker.inspect(queue, ids, **options)) for broker in (self.pair.redis, self.pair.model)]
        self.pair.agree(f"inspect {ids}", *map(_readable, found))

    @rule(queue=_queue, structure=st.sampled_from(_STRUCTURES), pages=st.integers(1, 3), limit=st.integers(1, 3))
    def places(self, queue: str, structure: Structure, pages: int, limit: int) -> None:
        """Pages one after the other; the next of them begins where other calls have changed the structure."""
        for _ in range(pages):
            last = [self.listed.get((queue, structure, place)) for place in (0, 1)]
            found = [
                self.pair.wait(broker.places(queue, structure, after, limit=limit))
                for broker, after in zip((self.pair.redis, self.pair.model), last, strict=True)
            ]
            ids = [[(place.id, structure == "parked" or place.position) for place in places] for places in found]
            if structure != "parked" or last == [None, None]:
                self.pair.agree(f"places {structure} after {last[0]}", *ids)
            for place, places in enumerate(found):
                self.listed[queue, structure, place] = places[-1] if places else None

    def _there(self, queue: str) -> bool:
        return queue in self.pair.model.store.models

    def _some(self, pick: int) -> tuple[str, str] | None:
        """(queue, id) of a task, mostly of one that has not ended."""
        unfinished = [(queue, i) for queue in QUEUES if self._there(queue) for i in
                      sorted(self.pair.model.store.models[queue].tasks)]  # fmt: skip
        among = unfinished if unfinished and pick < 24 else self.ids
        return among[pick % len(among)] if among else None

    # Workers.

    def _outcome(self, queue: str, owner: str, choice: tuple[int, str, bool, int]) -> Outcome | None:
        pick, code, keeps, delay = choice
        # Mostly a claim that the owner holds; now and then another owner's claim, or an old one.
        held = sorted(self.pair.model.store.models[queue].owners.items()) if self._there(queue) else []
        claims = [(o, i, n) for i, (o, n) in held if o == owner] if pick < 24 else self.claims[queue]
        if not claims:
            return None
        _, task_id, delivery = claims[pick % len(claims)]
        result = b"" if code == "d" else _RESULT if code == "s" else _CANCELLED
        extra: Any = delay if code in "rn" else _FAILURE if code in "fd" else 0
        if code == "r" and pick % 3:  # workers of earlier versions send no error record
            extra = delay, _FAILURE * (pick // 3)
        if code in "dx" and keeps:  # as workers of this version
            result, extra = (_CANCELLED, _FAILURE) if code == "d" else (_EXPIRED, _CANCELLED)
        if code == "s" and not keeps and delay == 0:
            result = b""
        return task_id, delivery, code, delay // 10, result, _ENDLESS_MS if keeps else 0, extra

    @rule(rounds=_rounds, options=_options)
    def work(self, rounds: list[tuple[int, str, int, int]], options: QueueOptions) -> None:
        """The usual case: a running task ends, and more are claimed."""
        for pick, code, delay, slots in rounds:
            self._work(pick, code, delay, slots, options)
            self.both_hold_the_same()

    def _work(self, pick: int, code: str, delay: int, slots: int, options: QueueOptions) -> None:
        models = self.pair.model.store.models
        held = [(queue, owner, i, n) for queue, model in models.items() for i, (owner, n) in model.owners.items()]
        if held:
            queue, owner, task_id, delivery = held[pick % len(held)]
            extra: Any = (
                delay if code == "n" else (delay, _FAILURE * 60) if code == "r" else _FAILURE if code == "f" else 0
            )
            result = _RESULT if code == "s" else _CANCELLED
            outcomes = [(task_id, delivery, code, 1, result, _ENDLESS_MS, extra)]
        else:
            queue, owner, outcomes, slots = QUEUES[pick % 2], "w1", [], 4
        reply = self.pair.both("step", queue, options, owner, slots, outcomes)
        self.claims[queue] += [(owner, claim[CLAIM_ID], claim[CLAIM_DELIVERY]) for claim in reply.claims]

    @rule(queue=_queue, owner=_owner, options=_options, slots=st.integers(0, 6), outcomes=_outcomes)
    def step(self, queue: str, owner: str, options: QueueOptions, slots: int, outcomes: list[Any]) -> None:
        made = [made for choice in outcomes if (made := self._outcome(queue, owner, choice)) is not None]
        reply = self.pair.both("step", queue, options, owner, slots, made)
        self.claims[queue] += [(owner, claim[CLAIM_ID], claim[CLAIM_DELIVERY]) for claim in reply.claims]

    @rule(queue=_queue, owner=_owner, picks=st.lists(_pick, max_size=3), busy=st.sampled_from([0, 7]))
    def renew(self, queue: str, owner: str, picks: list[int], busy: int) -> None:
        claims = self.claims[queue]
        held = [claims[pick % len(claims)][1:] for pick in picks] if claims else []
        self.pair.renew(queue, owner, 1000, busy, held)

    @rule(queue=_queue, owner=_owner, pick=_pick)
    def report(self, queue: str, owner: str, pick: int) -> None:
        if claims := self.claims[queue]:
            _, task_id, delivery = claims[pick % len(claims)]
            self.pair.both("report", queue, owner, [(task_id, delivery, b"half done")])
            self.pair.both("progress", queue, task_id)

    @rule(queue=_queue, owner=_owner)
    def owned(self, queue: str, owner: str) -> None:
        lists = [self.pair.wait(broker.owned(queue, owner)) for broker in (self.pair.redis, self.pair.model)]
        self.pair.agree("owned", *map(sorted, lists))

    @rule(queue=_queue)
    def relay(self, queue: str) -> None:
        self.pair.both("relay", queue)

    @rule(ms=st.sampled_from([1, 39, 300, 1000, 1001, 20_000]))
    def time_passes(self, ms: int) -> None:
        self.pair.clock.ms += ms

    # Operators.

    @rule(queue=_queue, horizon=st.sampled_from([0, 100, 5000]))
    def stats(self, queue: str, horizon: int) -> None:
        self.pair.both("stats_many", [queue], horizon_ms=horizon)

    @rule(horizon=st.sampled_from([0, 100, 5000]), soon=st.sampled_from([0, 50, 1000]))
    def figures(self, horizon: int, soon: int) -> None:
        found = self.pair.both("figures", dict.fromkeys(QUEUES, (horizon, soon)))
        for queue, stats in found.stats.items():
            before = self.counted.get(queue, (0, 0, 0))
            now = (stats.enqueued_total, stats.runnable_total, stats.attempts_total)
            assert all(new >= old for new, old in zip(now, before, strict=True)), f"{queue} counts backwards"
            assert stats.runnable_total >= stats.ready - len(self.pair.model.store.models[queue].outbox)
            self.counted[queue] = now

    @rule(queue=_queue, name=st.sampled_from(["purge", "purge_dead", "pause", "resume", "resume"]))
    def operate(self, queue: str, name: str) -> None:
        self.pair.both(name, queue)

    @rule(queue=_queue, picks=st.none() | st.lists(_pick, min_size=1, max_size=2))
    def requeue_dead(self, queue: str, picks: list[int] | None) -> None:
        ids = None if picks is None or not self.ids else [self.ids[pick % len(self.ids)][1] for pick in picks]
        self.pair.both("requeue_dead", queue, ids)

    @rule(queue=_queue)
    def a_worker_is_called(self, queue: str) -> None:
        """Take the call for a worker from the wake list."""
        with self.pair.model.store.queue(queue) as model:
            model.calls = 0
        self.pair.wait(self.pair.client.redis.delete(self.pair.redis.keys_of(queue).wake))

    # Invariants.

    @invariant()
    def both_hold_the_same(self) -> None:
        for queue in QUEUES:
            state, expected = self.pair.states(queue)
            # The scripts may call a worker once too often, but never once too little.
            expected["called"] = expected["called"] or state["called"]
            for part in expected:
                self.pair.agree(f"queue {queue}, {part}", state[part], expected[part])
            self.pair.sound = False
            self._is_sound(state)
            self.pair.sound = True

    def _is_sound(self, state: dict[str, Any]) -> None:
        tasks = state["tasks"].keys()
        places = Counter(task_id for task_id in state["ready"] if task_id in tasks)
        assert len(state["ready"]) - places.total() == state["counts"].get("removed", 0)
        for part in ("fair", "delayed", "blocked", "leases"):
            places.update(task_id for task_id, _ in state[part])
        for parked in state["parked"].values():
            places.update(parked)
        assert places == dict.fromkeys(tasks, 1), "every unfinished task is in exactly one place"
        assert state["owners"].keys() == {task_id for task_id, _ in state["leases"]}
        assert state["gathering"].keys() == {task_id for task_id, _ in state["blocked"]}
        for part in ("histories", "tags", "inputs", "reports", "errors"):
            assert state[part].keys() <= tasks, f"{part} of ended tasks"
        assert set(state["cancelling"]) <= state["owners"].keys(), "a mark for a task that does not run"
        assert set(state["announced"]) <= tasks, "somebody waits for the end of an ended task"
        running = Counter(state["tags"][i][1] for i in state["owners"] if i in state["tags"])
        assert state["slots"] == {key: n for key, n in running.items() if key is not None}
        for key, task_id in (*state["unique"].items(), *state["followers"].items()):
            assert state["tags"].get(task_id, (None,))[0] == key, "a unique key belongs to a task that lives"
        keyed = Counter(tag[0] for tag in state["tags"].values() if tag[0] is not None)
        held = Counter([*state["unique"], *state["followers"]])
        assert keyed == held, "a task with a unique key holds it or comes after the one that does"
        for task_id in state["followers"].values():
            assert task_id in dict(state["delayed"]) or task_id in state["gathering"], "what comes after waits"
        assert state["letters"].keys() == {task_id for task_id, _ in state["dead"]}
        assert state["fair"] or (not state["turns"] and state["turn"] is None)

    # The end of a run.

    def teardown(self) -> None:
        """All accepted tasks can be brought to an end, and then no key of theirs is left."""
        pair = self.pair
        if not pair.sound:
            return  # one difference is enough
        for queue in QUEUES:
            pair.both("resume", queue)
            pair.both("purge_dead", queue)
        plain = QueueOptions("q")
        for _ in range(60):
            for queue in QUEUES:
                mine = [(i, n, "s", 0, _RESULT, 0, 0) for i, n in pair.wait(pair.model.owned(queue, "last"))]
                pair.both("step", queue, plain, "last", 50, mine)
                pair.both("relay", queue)
            if not any(pair.model.store.models[queue].tasks for queue in QUEUES):
                break
            pair.clock.ms += 1000
        self.both_hold_the_same()
        left = {queue: pair.states(queue)[1] for queue in QUEUES}
        assert not any(state["tasks"] for state in left.values()), f"these are never done: {left}"
        for queue in QUEUES:
            pair.both("purge_dead", queue)
            pair.wait(pair.client.redis.delete(pair.redis.keys_of(queue).wake))
        parts = {key.rpartition("}:")[2] for key in self.pair.all_keys() if ":r:" not in key and ":s:" not in key}
        assert parts - {f"who:{ids.prefix()}"} <= {"model:queues", "stat", "control", "arrivals", "retry_at"}


@pytest.fixture
def pair(server: RedisServer) -> Iterator[Pair]:
    pair = Pair(server.url.removesuffix("/0") + "/5")
    yield pair
    pair.reset()
    pair.close()


@pytest.mark.timeout(900)  # it ends a test that hangs: a busy machine takes minutes
def test_the_scripts_and_the_model_do_the_same(pair: Pair) -> None:
    deep = os.environ.get("TASKFLEET_HYPOTHESIS") == "deep"
    run_state_machine_as_test(
        lambda: Machine(pair),
        settings=settings(
            max_examples=3000 if deep else 120,
            stateful_step_count=60 if deep else 40,
            derandomize=not deep,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_every_script_takes_the_clock_of_the_test() -> None:
    found = [value for value in vars(scripts).values() if isinstance(value, scripts.Script)]
    assert len(found) > 10
    asking = {script.name for script in found if "TIME" in script.source}
    assert {script.name for script in found if timed(script).source != script.source} == asking
