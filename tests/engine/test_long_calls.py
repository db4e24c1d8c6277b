"""One call copies or moves a bounded amount of data, however much there is."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskfleet import NewerVersionError, QueueOptions, chain, group
from taskfleet.protocol import dead_record, envelope, result_record
from taskfleet.protocol.claim import Claim
from taskfleet.protocol.item import MOST_EDGES, Edge, Extras, Waits
from taskfleet.protocol.outcome import Outcome
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue, RunWorker
from tests.support.redis_server import RedisServer

OPTIONS = QueueOptions("q")
CANCELLED = result_record.pack_cancelled("cancelled")
FAILURE = dead_record.pack_failure("exception", "ValueError: no", "")


@pytest.fixture
async def broker(server: RedisServer) -> AsyncIterator[RedisBroker]:
    broker = RedisBroker.from_url(server.url, prefix="long-calls")
    yield broker
    await broker.purge_keys(["q", "other"])
    await broker.close()


async def test_a_claim_takes_no_more_bytes_than_it_may(broker: RedisBroker) -> None:
    megabyte = b"x" * 1_000_000
    blobs = [b"small", *[megabyte] * 5, b"small", b"x" * 5_000_000, b"small"]
    for n, blob in enumerate(blobs):
        extras = Extras(fair_key="a" if n % 2 else "b") if n > 3 else None
        await broker.enqueue("q", [(f"t{n}", blob, 0, 0, extras)])
    seen: list[str] = []
    left = 1
    while left:
        reply = await broker.step("q", OPTIONS, "w", 100, [])
        left = reply.left
        sizes = [len(claim[2]) for claim in reply.claims]
        assert sizes
        assert sum(sizes) <= 2_000_000 or len(sizes) == 1
        seen += [claim[1] for claim in reply.claims]
    assert sorted(seen) == [f"t{n}" for n in range(len(blobs))]
    assert seen[:4] == ["t0", "t1", "t2", "t3"]


async def test_a_claim_takes_no_more_bytes_of_results_than_it_may(broker: RedisBroker) -> None:
    for n in range(12):
        await broker.enqueue(
            "q",
            [
                (f"last{n}", b"x", 0, 0, Extras(waits=Waits(1, 1))),
                (f"first{n}", b"x", 0, 0, Extras(edges=[Edge("q", f"last{n}", 0, carries=True)])),
            ],
        )
    firsts = (await broker.step("q", OPTIONS, "w", 12, [])).claims
    record = result_record.pack_success(b"x" * 500_000)
    for claim in firsts:  # one call passes on only so many bytes
        await broker.step("q", OPTIONS, "w", 0, [(claim[1], claim[4], "s", 0, record, 0, 0)])
    seen: list[str] = []
    while claims := (await broker.step("q", OPTIONS, "w", 100, [])).claims:
        assert sum(len(value) for claim in claims for value in claim[5] or ()) <= 2_000_000
        seen += [claim[1] for claim in claims]
    assert sorted(seen) == sorted(f"last{n}" for n in range(12))


@pytest.mark.parametrize(("members", "size"), [(2, 400_000), (150, 10)])
async def test_tasks_whose_results_are_whole_at_once_get_them_in_pages(
    broker: RedisBroker, members: int, size: int
) -> None:
    chords = 12
    for n in range(chords):
        await broker.enqueue("q", [(f"last{n}", b"x", 0, 0, Extras(waits=Waits(members, members)))])
    for at in range(members):
        edges = [Extras(edges=[Edge("q", f"last{n}", at, carries=True)]) for n in range(chords)]
        await broker.enqueue("q", [(f"m{n}.{at}", b"x", 0, 0, each) for n, each in enumerate(edges)])
    record = result_record.pack_success(b"x" * size)
    for _ in range(members):  # the last of these calls completes all
        claims = (await broker.step("q", OPTIONS, "w", chords, [])).claims
        await broker.step("q", OPTIONS, "w", 0, [(claim[1], claim[4], "s", 0, record, 0, 0) for claim in claims])
    stored = await broker.client.redis.hvals(broker.keys_of("q").input)
    assert len(stored) == chords
    assert sum(map(len, stored)) <= 2_010_000
    assert any(len(value) < 40 for value in stored), "some are in pages"
    seen = await run_dry(broker)
    assert [seen[f"last{n}"][5] for n in range(chords)] == [[record] * members] * chords
    assert await left_of(broker, "q") == set()


async def test_large_tasks_of_a_lost_worker_are_taken_over_a_few_at_a_time(broker: RedisBroker) -> None:
    ids = [f"t{n}" for n in range(12)]
    for task_id in ids:
        await broker.enqueue("q", [(task_id, b"x" * 500_000, 0, 0, None)])
    claimed = 0
    while claims := (await broker.step("q", OPTIONS, "gone", 100, [])).claims:
        claimed += len(claims)
    assert claimed == len(ids)
    leases = broker.keys_of("q").lease
    await broker.client.redis.zadd(leases, {task_id: n + 1 for n, task_id in enumerate(ids)}, xx=True)
    taken: list[str] = []
    while takeovers := (reply := await broker.step("q", OPTIONS, "w", 0, [])).taken_over:
        assert len(takeovers) <= 4
        taken += [takeover.id for takeover in takeovers]
        assert reply.horizon_ms == (1 if len(taken) < len(ids) else -1), "the rest is due at once"
    assert sorted(taken) == sorted(ids)


async def test_small_payloads_are_claimed_all_at_once(broker: RedisBroker) -> None:
    await broker.enqueue("q", [(f"t{n}", b"x" * 500, 0, 0, None) for n in range(900)])
    assert len((await broker.step("q", OPTIONS, "w", 1000, [])).claims) == 900


@pytest.mark.parametrize("named", [True, False])
async def test_large_letters_are_requeued_in_several_calls(broker: RedisBroker, named: bool) -> None:
    ids = [f"t{n}" for n in range(7)]
    for task_id in ids:
        await broker.enqueue("q", [(task_id, b"x" * 1_500_000, 0, 0, None)])
        (claim,) = (await broker.step("q", OPTIONS, "w", 1, [])).claims
        await broker.step("q", OPTIONS, "w", 0, [(task_id, claim[4], "f", 0, CANCELLED, 1000, FAILURE)])
    assert await broker.requeue_dead("q", [*ids, "unknown"] if named else None) == 7
    assert (await broker.stats_many(["q"]))["q"].ready == 7
    assert (await broker.stats_many(["q"]))["q"].dead == 0


async def test_tasks_that_are_due_at_the_same_time_move_in_order(broker: RedisBroker) -> None:
    await broker.enqueue("q", [(f"t{n:04}", b"x", 60_000, 0, None) for n in range(999)])
    await broker.client.redis.zadd(broker.keys_of("q").delayed, {f"t{n:04}": 1000 + n for n in range(999)})
    seen: list[str] = []
    while claims := (await broker.step("q", OPTIONS, "w", 300, [])).claims:
        seen += [claim[1] for claim in claims]
    assert seen == [f"t{n:04}" for n in range(999)]


# Many tasks that wait for one, and one that waits for many.

MANY = 1300


async def run_dry(broker: RedisBroker, *, results: dict[str, bytes] | None = None) -> dict[str, Claim]:
    """Claim and succeed until nothing is left; returns the claims by id. Each is claimed once."""
    seen: dict[str, Claim] = {}
    outcomes: list[Outcome] = []
    while True:
        reply = await broker.step("q", OPTIONS, "w", 400, outcomes)
        if reply.signals:
            await broker.relay("q")
        for claim in reply.claims:
            assert claim[1] not in seen
            seen[claim[1]] = claim
        record = result_record.pack_success(b"\x01")
        outcomes = [
            (claim[1], claim[4], "s", 0, (results or {}).get(claim[1], record), 60_000, 0) for claim in reply.claims
        ]
        if not (reply.claims or reply.left or reply.signals):
            return seen


async def a_wide_task(broker: RedisBroker, *, there: str = "q") -> None:
    for start in range(0, MANY, 1000):
        numbers = range(start, min(MANY, start + 1000))
        await broker.enqueue(there, [(f"d{n}", b"x", 0, 0, Extras(waits=Waits(1, 1))) for n in numbers])
    await broker.enqueue("q", [("wide", b"envelope", 0, 0, None)])
    for start in range(0, MANY, MOST_EDGES):
        edges = [Edge(there, f"d{n}", 0, carries=True) for n in range(start, min(MANY, start + MOST_EDGES))]
        for _ in range(2):  # a second sending links nothing more
            assert await broker.link("q", "wide", edges) == ("linked", b"")


async def left_of(broker: RedisBroker, *queues: str) -> set[str]:
    """The names of the keys that are not empty."""
    kept = {"stat", "control", "dead", "letter", "wake"}
    found = set()
    for queue in queues:
        names = broker.keys_of(queue)
        found |= {name.rpartition(":")[2] for name in names if await broker.client.redis.exists(name)} - kept
    return found


async def test_all_that_wait_for_one_task_are_let_in_once(broker: RedisBroker) -> None:
    await a_wide_task(broker)
    seen = await run_dry(broker)
    assert len(seen) == MANY + 1
    assert seen["wide"][2][8:] == b"envelope"
    assert all(seen[f"d{n}"][5] == [result_record.pack_success(b"\x01")] for n in range(MANY))
    assert await left_of(broker, "q") == set()


@pytest.mark.parametrize("ending", ["cancel", "f", "x", "purge"])
@pytest.mark.parametrize("there", ["q", "other"])
async def test_all_that_wait_for_one_task_end_with_it(broker: RedisBroker, ending: str, there: str) -> None:
    await a_wide_task(broker, there=there)
    if ending == "cancel":
        await broker.cancel("q", "wide", CANCELLED, 60_000, "no longer wanted")
    elif ending == "purge" and there == "other":
        await broker.purge("q")
    elif ending != "purge":
        await broker.client.redis.zadd(broker.keys_of("q").blocked, {"d0": "inf"}, xx=True)
        (claim,) = (await broker.step("q", OPTIONS, "w", 1, [])).claims
        reply = await broker.step(
            "q", OPTIONS, "w", 0, [("wide", claim[4], ending, 0, CANCELLED, 60_000, FAILURE if ending == "f" else 0)]
        )
        assert reply.signals
        await broker.relay("q")
    else:
        await broker.purge("q")
        assert await left_of(broker, "q") == set()
        return
    for n in (0, 1, MOST_EDGES, MANY - 1):
        state, record = await broker.status(there, f"d{n}")
        assert (state, result_record.unpack_end(record, queue=there, task_id=f"d{n}")[0]) == ("ended", "cancelled")
    assert (await broker.stats_many([there]))[there].blocked == 0
    await broker.step("q", OPTIONS, "w", 1, [])  # skips the id of the task that was cancelled while it was ready
    assert await left_of(broker, "q", there) == set()


async def test_the_next_worker_continues_where_a_relay_has_died(broker: RedisBroker) -> None:
    await a_wide_task(broker)
    (claim,) = (await broker.step("q", OPTIONS, "w", 1, [])).claims
    done = [("wide", claim[4], "s", 0, result_record.pack_success(b"\x01"), 60_000, 0)]
    assert (await broker.step("q", OPTIONS, "w", 0, done)).signals
    assert await broker._drain("q")
    assert (await broker.stats_many(["q"]))["q"].ready > 0
    other = broker.another()
    seen = await run_dry(other)  # a worker is told that signals are left
    await other.close()
    assert len(seen) == MANY
    assert await left_of(broker, "q") == set()


async def a_task_that_waits_for_many(broker: RedisBroker, n: int) -> None:
    await broker.enqueue("q", [("last", b"envelope", 0, 0, Extras(waits=Waits(n, n)))])
    for start in range(0, n, 1000):
        numbers = range(start, min(n, start + 1000))
        await broker.enqueue(
            "q", [(f"m{at}", b"x", 0, 0, Extras(edges=[Edge("q", "last", at, carries=True)])) for at in numbers]
        )


@pytest.mark.parametrize(("n", "size"), [(MANY, 5), (30, 200_000)])
async def test_the_results_of_many_come_in_order(broker: RedisBroker, n: int, size: int) -> None:
    await a_task_that_waits_for_many(broker, n)
    records = {f"m{at}": result_record.pack_success(f"{at}".zfill(size).encode()) for at in range(n)}
    seen = await run_dry(broker, results=records)
    assert seen["last"][2][8:] == b"envelope"
    assert seen["last"][5] == [records[f"m{at}"] for at in range(n)]
    assert await left_of(broker, "q") == set()


async def test_a_dead_letter_keeps_the_results_of_many(broker: RedisBroker) -> None:
    await a_task_that_waits_for_many(broker, MANY)
    claims: list[Claim] = []
    while not (claims and claims[0][1] == "last"):
        done = [(claim[1], claim[4], "s", 0, result_record.pack_success(b"\x01"), 60_000, 0) for claim in claims]
        claims = (await broker.step("q", OPTIONS, "w", 400, done)).claims
    for _ in range(2):
        await broker.step("q", OPTIONS, "w", 0, [("last", claims[0][4], "f", 0, CANCELLED, 60_000, FAILURE)])
        await broker.relay("q")
        assert await broker.requeue_dead("q", None) == 1
        claims = (await broker.step("q", OPTIONS, "w", 1, [])).claims
        assert claims[0][2][8:] == b"envelope"
        assert len(claims[0][5] or ()) == MANY
    await broker.step("q", OPTIONS, "w", 0, [("last", claims[0][4], "f", 0, CANCELLED, 60_000, FAILURE)])
    assert await broker.purge_dead("q") == 1
    assert await left_of(broker, "q") == set()


async def test_a_task_that_waits_for_many_leaves_nothing_when_it_is_cancelled(broker: RedisBroker) -> None:
    await a_task_that_waits_for_many(broker, MANY)
    claims = (await broker.step("q", OPTIONS, "w", 200, [])).claims
    await broker.step("q", OPTIONS, "w", 0, [(c[1], c[4], "s", 0, CANCELLED, 60_000, 0) for c in claims])
    await broker.cancel("q", "last", CANCELLED, 60_000, "no longer wanted")
    await broker.purge("q")
    assert await left_of(broker, "q") == set()


async def test_workers_of_older_versions_hand_back_wide_tasks(broker: RedisBroker) -> None:
    await a_wide_task(broker)
    stored = await broker.client.redis.hget(broker.keys_of("q").task, "wide")
    assert envelope.version_of(stored[8:]) == 4
    assert isinstance(envelope.newer_version(stored[8:], "the payload"), NewerVersionError)


async def test_outcomes_that_are_too_much_for_one_call_go_in_several(broker: RedisBroker) -> None:
    await broker.enqueue("q", [(f"t{n}", b"x" * 300_000, 0, 0, Extras(limit_key="k")) for n in range(20)])
    claims: list[Claim] = []
    while len(claims) < 20:
        claims += (await broker.step("q", OPTIONS, "w", 20, [])).claims
    outcomes: list[Outcome] = [(c[1], c[4], "f", 1, CANCELLED, 60_000, FAILURE) for c in claims]
    reply = await broker.step("q", OPTIONS, "w", 5, [*outcomes, *outcomes[:3], ("unknown", 1, "s", 0, b"", 0, 0)])
    assert reply.stale == 4
    stats = (await broker.stats_many(["q"]))["q"]
    assert (stats.dead, stats.failed_total, stats.busy_ms_total, stats.in_flight) == (20, 20, 20, 0)


async def steps_sent(broker: RedisBroker) -> int:
    return int((await broker.client.redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize("extras", [None, Extras(limit_key="k")])
@pytest.mark.parametrize("record", [b"", CANCELLED])
async def test_large_payloads_are_freed_a_bounded_number_of_bytes_at_a_time(
    broker: RedisBroker, extras: Extras | None, record: bytes
) -> None:
    for n in range(70):
        await broker.enqueue("q", [(f"t{n}", b"x" * 1_000_000, 0, 0, extras)])
    claims: list[Claim] = []
    while len(claims) < 70:
        claims += (await broker.step("q", OPTIONS, "w", 20, [])).claims
    before = await steps_sent(broker)
    reply = await broker.step("q", OPTIONS, "w", 0, [(c[1], c[4], "s", 1, record, 60_000, 0) for c in claims])
    assert await steps_sent(broker) - before == 3
    assert reply.stale == 0
    stats = (await broker.stats_many(["q"]))["q"]
    assert (stats.finished_total, stats.busy_ms_total, stats.in_flight) == (70, 70, 0)
    assert await left_of(broker, "q") == set()


async def test_small_payloads_end_in_one_call_also_beside_a_large_one(broker: RedisBroker) -> None:
    sizes = [40_000_000, *[500] * 200]
    await broker.enqueue("q", [(f"t{n}", b"x" * size, 0, 0, None) for n, size in enumerate(sizes)])
    claims: list[Claim] = []
    while len(claims) < len(sizes):
        claims += (await broker.step("q", OPTIONS, "w", 100, [])).claims
    before = await steps_sent(broker)
    await broker.step("q", OPTIONS, "w", 0, [(c[1], c[4], "s", 1, b"", 60_000, 0) for c in claims])
    assert await steps_sent(broker) - before == 2
    assert await left_of(broker, "q") == set()


async def test_large_dead_letters_beyond_their_number_go_a_few_at_a_time(broker: RedisBroker) -> None:
    letters = broker.keys_of("q").letter
    for n in range(50):
        await broker.client.redis.hset(letters, f"d{n}", b"x" * 1_000_000)
        await broker.client.redis.zadd(broker.keys_of("q").dead, {f"d{n}": n + 1})
    left = []
    for n in range(2):
        await broker.enqueue("q", [(f"t{n}", b"x" * 20_000, 0, 0, None)])
        (claim,) = (await broker.step("q", OPTIONS, "w", 1, [])).claims
        await broker.step("q", OPTIONS, "w", 0, [(claim[1], claim[4], "f", 0, CANCELLED, 60_000, FAILURE)])
        left.append(await broker.client.redis.hlen(letters))
    assert left == [50 + 1 - 32, 2]


@pytest.mark.parametrize(("count", "size", "calls"), [(0, 0, 1), (5, 10, 1), (5000, 300, 30), (40, 400_000, 40)])
async def test_many_schedules_are_listed_page_by_page(broker: RedisBroker, count: int, size: int, calls: int) -> None:
    specs, ticks, states = broker.keys_of("q").schedules
    names = [f"s{n:05}" for n in range(count)]
    for name in names:
        await broker.client.redis.hset(specs, name, b"x" * size)
    if names:
        await broker.client.redis.zadd(ticks, {name: 1_700_000_000_000 + n for n, name in enumerate(names[1:])})
        await broker.client.redis.hset(states, names[0], b"state")
    before = await steps_sent(broker) if count else 0
    found = await broker.schedules.entries_of("q")
    if count:
        assert await steps_sent(broker) - before <= calls
        assert count < 10 or await steps_sent(broker) - before >= calls // 8
    assert [entry.name for entry in found] == names
    assert [entry.tick_ms for entry in found] == [None, *(1_700_000_000_000 + n for n in range(count - 1))][:count]
    assert [entry.state for entry in found] == [b"state", *[b""] * (count - 1)][:count]
    assert {len(entry.spec) for entry in found} <= {size}
    await broker.client.redis.delete(specs, ticks, states)


async def test_a_wide_workflow_runs_to_its_end(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()

    @queue.task
    async def one(n: int = 0) -> int:
        return n

    @queue.task
    async def add(base: int, n: int) -> int:
        return base + n

    @queue.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    wide = chain(one.message(7), group(*(add.message(n=n) for n in range(MANY))), total.message())
    handle = await queue.enqueue(wide)
    deeper = await queue.enqueue(
        chain(one.message(1), add.message(n=1), group(*(add.message(n=n) for n in range(MANY))))
    )
    await run_worker(queue, concurrency=50)
    assert await handle.result(timeout=60) == sum(7 + n for n in range(MANY))
    assert await deeper.result(timeout=60) == [2 + n for n in range(MANY)]


@pytest.mark.parametrize("value", [None, b"many", b"inf", b"nan", b"1.5", b"9" * 30])
async def test_slots_are_counted_from_none_where_redis_has_no_number(broker: RedisBroker, value: bytes | None) -> None:
    one_each = QueueOptions("q", concurrency_per_key=1)
    slots = broker.keys_of("q").slots
    if value is not None:
        await broker.client.redis.hset(slots, "k", value)
    await broker.enqueue("q", [(f"t{n}", b"x", 0, 0, Extras(limit_key="k")) for n in range(3)])
    done: list[Outcome] = []
    for n in range(3):
        (claim,) = (await broker.step("q", one_each, "w", 10, done)).claims
        assert claim[1] == f"t{n}"
        assert await broker.client.redis.hget(slots, "k") == b"1"
        done = [(claim[1], claim[4], "s", 0, b"", 0, 0)]
    assert not (await broker.step("q", one_each, "w", 10, done)).claims
    assert await left_of(broker, "q") == set()
