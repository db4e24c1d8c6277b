"""Decisions of scalers in Redis: kept within bounds by whoever decides, read back whole, and safe from foreign data."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import random
import struct
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest

from taskfleet import BrokerConnectionError, ConfigurationError, TaskQueue
from taskfleet.cancellation import end
from taskfleet.errors import TaskQueueError
from taskfleet.history import (
    DecisionLog,
    DecisionRecord,
    decision_log,
    decision_reading,
    decision_record,
    decisions,
    record_decision,
    replicas_over_time,
    scalers,
)
from taskfleet.redis.broker import RedisBroker
from taskfleet_operator.autoscaler import FleetSample, ScalingState, decide, plain_state, replay
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.scaling import decision_notes
from taskfleet_operator.scaling.decision_notes import DecisionNotes, record_of
from taskfleet_operator.scaling.loop import ScalingLoop
from taskfleet_operator.scaling.order import QueueTarget, ScalingOrder
from taskfleet_operator.scaling.port import Look
from taskfleet_operator.scaling.sampling import Replicas
from taskfleet_operator.scaling.shared_redis import SharedRedis
from tests.engine.conftest import until
from tests.engine.test_history import broker_of
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import RedisCluster
from tests.unit.autoscaler.builders import fresh, sample
from tests.unit.autoscaler.builders import queue as queue_sample
from tests.unit.operator.test_scaling_loop import MemoryBroker, MemoryFleet

SCALER = "shop/orders"
SPEC = AutoscalerSpec(max_replicas=20)


@pytest.fixture
def broker(queue: TaskQueue) -> RedisBroker:
    return broker_of(queue)


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def look_of(seen: FleetSample, state: ScalingState, now: float) -> Look:
    order = ScalingOrder((QueueTarget("default"),), SPEC, seen.overrides, concurrency=8, processes=1)
    decision = decide(seen, state, SPEC, now)
    replicas = Replicas(seen.current_replicas, seen.ready_replicas, 0)
    return Look(order, replicas, seen, None, None, decision, decided=decision.desired, now=now, before=state)


def looks(count: int, queues: int = 1) -> Iterator[Look]:
    """A fleet under changing load, at a poll every five seconds."""
    rolls, state, current, total = random.Random(1), fresh(2), 2, 1000
    for number in range(count):
        total += rolls.randrange(50)
        seen = sample(
            *(
                queue_sample(
                    int(1500 * (1 + math.sin(number / 15))) + rolls.randrange(300),
                    name=f"queue-{n}",
                    runnable_total=total,
                    attempts_total=total - 100,
                )
                for n in range(queues)
            ),
            current=current,
            busy_workers=min(current, rolls.randrange(4)),
        )
        look = look_of(seen, state, 10_000.0 + 5 * number)
        assert look.decision is not None
        yield look
        state, current = look.decision.state, look.decision.desired


def record(look: Look, *, with_state: bool = False) -> DecisionRecord:
    assert look.decision is not None
    return record_of(look, look.decision, with_state=with_state)


async def keep(broker: RedisBroker, many: list[Look], scaler: str = SCALER) -> list[DecisionRecord]:
    """Write these looks as a loop does, five seconds apart."""
    clock = Clock()
    log = DecisionLog(broker, scaler, clock)
    written: list[DecisionRecord] = []
    for look in many:
        clock.now += 5
        one = record(look, with_state=log.wants_state)
        assert log.wants(one.outcome)
        await log.add(one, busy=look.sample.busy_workers)
        written.append(one)
    return written


def timeless(records: list[DecisionRecord]) -> list[Any]:
    """The records without the time that Redis has given them, and as JSON tells them."""
    bodies = [decision_record.body_of(one) for one in records]
    return [
        (body, None if one.state is None else decision_record._json(one.state))
        for body, one in zip(bodies, records, strict=True)
    ]


async def test_decisions_come_back_as_they_were_made_with_all_that_they_were_made_from(broker: RedisBroker) -> None:
    began = datetime.now(UTC)
    written = await keep(broker, list(looks(70, queues=3)))
    found = await decisions(broker, SCALER)
    assert timeless(found) == timeless(written)
    assert [one.state is not None for one in found].count(True) == 3, "a key frame every 30 records"
    assert found[0].state is not None
    assert all(began - timedelta(seconds=2) < one.at <= datetime.now(UTC) + timedelta(seconds=2) for one in found)
    assert found == sorted(found, key=lambda one: one.at)
    assert found[5].queues[0]["name"] == "queue-0"
    assert found[5].terms["slots_per_replica"] == 8
    assert found[5].spec["maxReplicas"] == 20
    assert found[5].sample["queues"][0]["runnable_total"] > 1000


async def test_a_replay_of_what_was_kept_gives_the_recorded_numbers(broker: RedisBroker) -> None:
    written = await keep(broker, list(looks(120, queues=2)))
    again = replay(_apart(await decisions(broker, SCALER)))
    assert [one.would for one in again] == [one.decided for one in written]
    assert len({one.would for one in again}) > 2, "the load was a changing one"


def _apart(records: list[DecisionRecord]) -> list[DecisionRecord]:
    """As Redis would have stamped them, had the test taken ten minutes."""
    first = records[0]
    return [dataclasses.replace(one, at=first.at + timedelta(seconds=one.now - first.now)) for one in records]


async def test_an_hour_of_decisions_has_a_bound_in_bytes_and_takes_little(broker: RedisBroker) -> None:
    await keep(broker, list(looks(720, queues=3)))
    redis, key = broker.client.redis, broker.fleet.decisions(SCALER)
    used = await redis.memory_usage(key, samples=0)
    entries = await redis.lrange(key, 0, -1)
    assert len(entries) == 720
    assert sum(map(len, entries)) / 720 < 400, "bytes of a decision about three queues, whose figures all change"
    assert used < sum(map(len, entries)) * 1.5
    assert 3500 < await redis.ttl(key) <= 3600


async def test_beyond_the_bounds_the_oldest_decisions_go(broker: RedisBroker) -> None:
    key = broker.fleet.decisions(SCALER)
    await keep(broker, list(looks(850)))
    found = await decisions(broker, SCALER)
    assert await broker.client.redis.llen(key) == decision_log.BOUNDS.most == 800
    assert found[-1].now == 10_000 + 5 * 849
    assert 800 - decision_log.FRAMES < len(found) <= 800, "those whose key frame has gone cannot be read"
    assert broker.skipped.counts == {}

    big = [record_with(text_bytes=3000, now=float(n)) for n in range(200)]
    log = DecisionLog(broker, SCALER, clock := Clock())
    for one in big:
        clock.now += 5
        await log.add(one, busy=0)
    assert sum(map(len, await broker.client.redis.lrange(key, 0, -1))) <= decision_log.BOUNDS.most_bytes
    assert (await decisions(broker, SCALER))[-1].now == 199


def record_with(*, text_bytes: int, now: float = 0.0) -> DecisionRecord:
    noise = random.Random(now).randbytes(text_bytes).hex()  # cannot be compressed
    return DecisionRecord(datetime.now(UTC), 1, 2, 2, "Noise", "m", sample={"noise": noise}, now=now)


async def test_a_decision_that_is_too_large_is_refused_and_named(broker: RedisBroker) -> None:
    with pytest.raises(TaskQueueError, match=r"the decision of shop/orders has \d+ bytes and is not recorded"):
        await record_decision(broker, SCALER, record_with(text_bytes=decision_record.BODY_LIMIT))
    state = {"noise": random.Random(1).randbytes(decision_record.BODY_LIMIT).hex()}
    await record_decision(broker, SCALER, dataclasses.replace(record_with(text_bytes=10), state=state))
    [found] = await decisions(broker, SCALER)
    assert found.state is None, "a memory that is too large is left out"
    queues = [{"name": random.Random(n).randbytes(1000).hex()} for n in range(100)]
    await record_decision(broker, SCALER, dataclasses.replace(record_with(text_bytes=10), queues=queues))
    assert [one.queues for one in await decisions(broker, SCALER)] == [(), ()]


async def test_after_a_loss_of_data_the_next_decisions_can_be_read(broker: RedisBroker) -> None:
    clock = Clock()
    log = DecisionLog(broker, SCALER, clock)
    many = list(looks(12))
    for number, look in enumerate(many):
        if number == 8:
            await broker.client.redis.delete(broker.fleet.decisions(SCALER))
        clock.now += 5
        await log.add(record(look, with_state=log.wants_state), busy=0)
    assert [one.now for one in await decisions(broker, SCALER)] == [look.now for look in many[9:]]


async def test_decisions_older_than_an_hour_are_dropped(broker: RedisBroker) -> None:
    await keep(broker, list(looks(40)))
    redis, key = broker.client.redis, broker.fleet.decisions(SCALER)
    entries = await redis.lrange(key, 0, -1)
    hour_ago = msgpack.packb((time.time() - 3601) * 1000)[1:]  # a double, as Lua packs it
    for number in range(15):
        await redis.lset(key, number, entries[number][:8] + hour_ago + entries[number][16:])
    await record_decision(broker, SCALER, record(next(looks(1))))
    assert await redis.llen(key) == 26


async def test_one_decision_in_a_few_seconds_is_kept_and_every_change(broker: RedisBroker) -> None:
    clock = Clock()
    log = DecisionLog(broker, SCALER, clock)
    same = record(next(looks(1)))
    assert log.wants(same.outcome)
    await log.add(same, busy=0)
    clock.now = 1.0
    assert not log.wants(same.outcome)
    for other in ({"desired": 9}, {"reason": "Other"}, {"limited_by": "Other"}):
        assert log.wants(dataclasses.replace(same, **other).outcome)
    clock.now = 4.6
    assert log.wants(same.outcome)
    for number in range(100):  # a storm that changes its mind each time
        one = dataclasses.replace(same, desired=number)
        if log.wants(one.outcome):
            await log.add(one, busy=0)
    assert await broker.client.redis.llen(broker.fleet.decisions(SCALER)) == 60
    clock.now = 61
    assert log.wants(same.outcome)


async def test_decisions_since_a_time_are_those_after_it(broker: RedisBroker) -> None:
    await keep(broker, list(looks(140)))
    every = await decisions(broker, SCALER)
    for number in (0, 29, 30, 31, 100, 135, 139):
        found = await decisions(broker, SCALER, every[number].at)
        assert [one.now for one in found] == [one.now for one in every if one.at > every[number].at]
    assert await decisions(broker, SCALER, datetime.now(UTC) + timedelta(hours=1)) == []
    assert await decisions(broker, "shop/other") == []


async def test_the_decisions_of_two_processes_can_both_be_read(broker: RedisBroker) -> None:
    """An operator that was cut off still writes while the next one leads."""
    clock = Clock()
    logs = [DecisionLog(broker, SCALER, clock) for _ in range(2)]
    many = list(looks(80, queues=2))
    for number, look in enumerate(many):
        clock.now += 5
        log = logs[number % 2]
        await log.add(record(look, with_state=log.wants_state), busy=0)
    assert [one.now for one in await decisions(broker, SCALER)] == [look.now for look in many]
    assert broker.skipped.counts == {}


async def test_of_two_processes_those_since_a_time_can_be_read_whenever_each_has_begun(broker: RedisBroker) -> None:
    clock = Clock()
    logs = [DecisionLog(broker, SCALER, clock) for _ in range(2)]
    for number, look in enumerate(looks(260)):
        clock.now += 5
        log = logs[number % 2 if number >= 16 else 0]  # so that their key frames are apart
        await log.add(record(look, with_state=log.wants_state), busy=0)
    every = await decisions(broker, SCALER)
    assert len(every) == 260
    for number in range(0, 260, 9):
        found = await decisions(broker, SCALER, every[number].at)
        assert [one.now for one in found] == [one.now for one in every if one.at > every[number].at]


async def test_decisions_that_are_written_while_others_are_read_neither_repeat_nor_hide_one(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = list(looks(213))
    await keep(broker, many[:210])
    reads, later = broker.client.redis.lrange, iter(many[210:])

    async def lrange(*arguments: Any) -> Any:
        found = await reads(*arguments)
        if (look := next(later, None)) is not None:
            await record_decision(broker, SCALER, record(look))
        return found

    monkeypatch.setattr(broker.client.redis, "lrange", lrange)
    assert [one.now for one in await decisions(broker, SCALER)] == [look.now for look in many[:210]]


@pytest.mark.orphans("another program writes under the keys")
async def test_what_another_program_has_written_is_read_up_to_a_bound(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_reading, "BOUNDS", decision_log.BOUNDS._replace(most=300, most_scalers=300))
    redis, fleet = broker.client.redis, broker.fleet
    await redis.rpush(fleet.decisions(SCALER), *[b"x" * 40 + b"%d" % number for number in range(5000)])
    await redis.hset(fleet.latest, mapping={f"shop/{number}": "x" * 200 for number in range(5000)})
    await redis.config_resetstat()
    assert await decisions(broker, SCALER) == []
    assert await scalers(broker) == []
    calls = {name: entry["calls"] for name, entry in (await redis.info("commandstats")).items()}
    assert calls["cmdstat_lrange"] <= 4
    assert calls["cmdstat_hscan"] <= 8


@pytest.mark.orphans("another program writes under the key")
async def test_the_bound_in_bytes_holds_after_an_entry_of_another_program(broker: RedisBroker) -> None:
    key, redis = broker.fleet.decisions(SCALER), broker.client.redis
    for number in (math.nan, math.inf, -math.inf, 1e300, -1e300):
        odd = struct.pack(">dd", number, number)
        await redis.delete(key)
        await redis.rpush(key, odd)
        log = DecisionLog(broker, SCALER, clock := Clock())
        for at in range(200):
            clock.now += 5
            await log.add(record_with(text_bytes=3000, now=float(at)), busy=0)
        assert sum(map(len, await redis.lrange(key, 0, -1))) <= decision_log.BOUNDS.most_bytes
        assert (await decisions(broker, SCALER))[-1].now == 199


async def test_a_summary_has_a_bound_whatever_a_decision_says(broker: RedisBroker) -> None:
    wordy = dataclasses.replace(record(next(looks(1))), reason="r" * 900, message="m" * 900, limited_by="l" * 900)
    await record_decision(broker, SCALER, wordy)
    assert len(await broker.client.redis.hget(broker.fleet.latest, SCALER)) < 1000
    [found] = await scalers(broker)
    assert (found.reason, found.message, found.limited_by) == ("r" * 300, "m" * 300, "l" * 300)
    [whole] = await decisions(broker, SCALER)
    assert (whole.reason, whole.message) == (wordy.reason, wordy.message)


async def test_those_that_decided_within_a_day_are_listed_with_their_last_decision(broker: RedisBroker) -> None:
    many = list(looks(5))
    for name in ("shop/b", "local/a"):
        await keep(broker, many, name)
    found = await scalers(broker)
    assert [one.name for one in found] == ["local/a", "shop/b"]
    last = many[-1].decision
    assert last is not None
    for one in found:
        assert (one.replicas, one.desired, one.busy) == (last.current, last.desired, many[-1].sample.busy_workers)
        assert (one.reason, one.message, one.limited_by) == (last.reason, last.message, last.limited_by)
        assert abs((datetime.now(UTC) - one.at).total_seconds()) < 30
    redis, fleet = broker.client.redis, broker.fleet
    await redis.zadd(fleet.scalers, {"shop/b": (time.time() - 86_401) * 1000})
    await keep(broker, many[:1], "local/a")
    assert [one.name for one in await scalers(broker)] == ["local/a"]


async def test_so_many_scalers_are_remembered_and_no_more(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_log, "BOUNDS", decision_log.BOUNDS._replace(most_scalers=3))
    look = next(looks(1))
    for name in "abcdaea":
        await record_decision(broker, f"shop/{name}", record(look))
    assert [one.name for one in await scalers(broker)] == ["shop/a", "shop/d", "shop/e"]
    await record_decision(broker, "shop/e", record(look))
    assert [one.name for one in await scalers(broker)] == ["shop/a", "shop/d", "shop/e"], "it is one of them already"


async def test_the_replicas_of_a_day_are_kept_by_the_minute(broker: RedisBroker) -> None:
    first, second = list(looks(2))
    await keep(broker, [first, second])
    points = await replicas_over_time(broker, SCALER)
    assert len(points) in (1, 2)
    assert second.decision is not None
    assert points[-1].replicas >= second.decision.current
    assert points[-1].desired >= second.decision.desired
    assert points[-1].at.second == 0
    assert await broker.client.redis.strlen(broker.fleet.replicas(SCALER)) == 1440 * 15
    assert await replicas_over_time(broker, "shop/other") == []


@pytest.mark.parametrize("name", ["orders", "a/b/c", "", "a/", "a/b\n", "a/ü"])
async def test_a_name_that_no_scaler_has_is_an_error(broker: RedisBroker, name: str) -> None:
    for call in (decisions, replicas_over_time):
        with pytest.raises(ConfigurationError, match="must be NAMESPACE/NAME"):
            await call(broker, name)


@pytest.mark.orphans("another program writes under the keys")
async def test_what_another_program_has_written_is_left_out_and_the_rest_is_read(broker: RedisBroker) -> None:
    written = await keep(broker, list(looks(40)))
    redis, fleet = broker.client.redis, broker.fleet
    key = fleet.decisions(SCALER)
    whole = (await redis.lrange(key, 0, 0))[0]
    frame = decision_record.key_frame
    bodies = (b"[]", b"[" * 100_000, b"{}", b" " * 400_000, b'{"current":-1,"desired":1,"decided":1}', b"\xff")
    odd = [
        *(b"", b"text", b"x" * 100, whole[:16], whole[:17], whole[:-5], whole[:16] + b"Kx", whole[:16] + b"Dx"),
        whole[:8] + b"\xff" * 8 + whole[16:],
        *(whole[:16] + frame(body, None) for body in bodies),
    ]
    for one in odd:
        await redis.linsert(key, "AFTER", whole, one)
    found = await decisions(broker, SCALER)
    assert [one.now for one in found] == [one.now for one in written]
    assert broker.skipped.counts["decision"] == len(odd)

    await redis.hset(fleet.latest, mapping={b"x" * 300: b"y", b"a/b": b"", b"a/c": b"\0" * 40, b"\xff": whole})
    assert [one.name for one in await scalers(broker)] == [SCALER]

    for command, arguments in (("SET", ("text",)), ("HSET", ("a", "b"))):
        for other in (key, fleet.latest, fleet.replicas(SCALER)):
            await redis.delete(other)
            await redis.execute_command(command, other, *arguments)
        for call in (decisions(broker, SCALER), replicas_over_time(broker, SCALER)):
            with pytest.raises(BrokerConnectionError, match=r"^[^\n]*another program[^\n]*$"):
                await call
        with pytest.raises(BrokerConnectionError, match=r"^[^\n]+$"):
            await record_decision(broker, SCALER, written[0])


@contextlib.asynccontextmanager
async def loop_over(broker: RedisBroker, fleet: MemoryFleet) -> AsyncIterator[tuple[ScalingLoop, SharedRedis]]:
    """A real loop and a real Redis, with workers that are there at once."""
    redis = SharedRedis("Redis", broker, lambda _queue: None, recording=broker)
    loop = ScalingLoop(fleet, redis, scaler=SCALER)
    task = asyncio.create_task(loop.run())
    try:
        yield loop, redis
    finally:
        await end([task])
        await redis.close()


async def test_a_loop_keeps_its_decisions(broker: RedisBroker) -> None:
    fleet = MemoryFleet(MemoryBroker(), poll_seconds=600)
    async with loop_over(broker, fleet) as (loop, _):
        await until(lambda: decided(broker, 1), "the first decision")
        for number in (3, 4):
            fleet.asked = dataclasses.replace(fleet.asked, replicas=number)
            loop.wake()
            await until(lambda number=number: decided(broker, number - 1), "each change")
    found = await decisions(broker, SCALER)
    assert [one.desired for one in found][:3] == [0, 3, 4]
    assert {one.reason for one in found} == {"Disabled"}
    [summary] = await scalers(broker)
    assert (summary.name, summary.desired) == (SCALER, 4)
    assert [one.would for one in replay(found)] == [one.decided for one in found]


async def decided(broker: RedisBroker, count: int) -> bool:
    return len(await decisions(broker, SCALER)) >= count


@pytest.mark.orphans("another program writes under the key")
async def test_a_decision_that_cannot_be_recorded_is_carried_out_all_the_same(
    broker: RedisBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.client.redis.set(broker.fleet.decisions(SCALER), "text")
    fleet = MemoryFleet(MemoryBroker(), poll_seconds=600)
    async with loop_over(broker, fleet) as (loop, redis):
        for number in range(1, 6):
            fleet.asked = dataclasses.replace(fleet.asked, replicas=number)
            loop.wake()
            await until(lambda number=number: fleet.wanted == number, "the order is followed")
        await until(lambda: redis.decisions_lost >= 5, "all of them are counted")
        assert redis.decisions_recorded == 0
    assert fleet.errors == []
    lines = [line for line in caplog.messages if "decisions are not recorded, and made all the same" in line]
    assert 1 <= len(lines) <= 4


async def test_a_redis_that_hangs_delays_no_decision() -> None:
    with RedisServer() as server:
        broker = RedisBroker.from_url(server.url, prefix="app", command_timeout=1.0)
        notes = DecisionNotes("Redis", broker)
        try:
            server.pause()
            began = time.monotonic()
            for look in looks(3000):
                notes.note(SCALER, look)
            assert time.monotonic() - began < 20, "the time of three thousand decisions"
            assert len(notes._waiting) <= 2000
            server.go_on()
            notes.note(SCALER, next(looks(1)))
            writing = notes._writing
            assert writing is not None
            await until(writing.done, "it works off what waits", seconds=60)
            assert notes.written >= 1
            assert notes.written + notes.lost <= 3001
        finally:
            server.go_on()
            await notes.close()
            await broker.close()


async def test_notes_that_are_late_or_alike_are_not_written(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_notes, "_MOST_LOGS", 3)
    monkeypatch.setattr(decision_log, "_CLOSEST_SECONDS", 600.0)  # those that are alike, however long a call takes
    notes = DecisionNotes("Redis", broker)
    look = next(looks(1))
    try:
        # Nothing is written before this test waits.
        notes.note("shop/late", look)
        notes._waiting[0] = notes._waiting[0]._replace(noted=time.monotonic() - 16)
        for name in ("shop/a", "shop/a", "shop/b", "shop/c", "shop/d"):
            notes.note(name, look)
        assert len(notes._waiting) == 6
        await until(lambda: notes._writing is not None and notes._writing.done(), "it works off what waits")
        assert [one.name for one in await scalers(broker)] == ["shop/a", "shop/b", "shop/c", "shop/d"]
        assert len(await decisions(broker, "shop/a")) == 1, "one like it was written a moment before"
        assert (notes.written, notes.lost) == (4, 1)
        assert len(notes._logs) == 3
    finally:
        await notes.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


async def test_on_a_cluster_decisions_are_kept_and_read(cluster: RedisCluster, make_queue: Any) -> None:
    broker = broker_of(make_queue(cluster.url))
    written = await keep(broker, list(looks(35)))
    assert timeless(await decisions(broker, SCALER)) == timeless(written)
    assert [one.name for one in await scalers(broker)] == [SCALER]
    assert len(await replicas_over_time(broker, SCALER)) in (1, 2)


async def test_the_memory_of_an_autoscaler_is_that_before_the_decision() -> None:
    look = next(looks(1))
    assert look.before is not None
    assert record(look, with_state=True).state == plain_state(look.before)
    assert record(look).state is None
