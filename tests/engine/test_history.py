"""Figures of queues over time: recorded by one of several recorders, in rings of fixed size, and read back."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskfleet import BrokerConnectionError, ConfigurationError, QueueOptions, TaskQueue
from taskfleet.cancellation import end
from taskfleet.doctor.checkup import look
from taskfleet.history import DecisionRecord, Recorder, read, record_decision, sparklines
from taskfleet.protocol import rings
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.rings import QUEUE_RINGS
from taskfleet.protocol.stats import QueueStats
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import history as calls
from taskfleet.supervising import supervise
from tests.engine.conftest import MakeQueue, until
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import RedisCluster

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "history.md"
GAUGES = (0,) * 6


@pytest.fixture
def broker(queue: TaskQueue) -> RedisBroker:
    return broker_of(queue)


@pytest.fixture
def recorder(broker: RedisBroker) -> Recorder:
    return Recorder(broker, partitions_per_second=1e9)


async def send(queue: TaskQueue, count: int, name: str = "default") -> None:
    @queue.task(name=f"noop-{secrets.token_hex(4)}", queue=name)
    async def noop() -> None: ...

    await queue.enqueue_many([noop.message() for _ in range(count)])


def broker_of(queue: TaskQueue) -> RedisBroker:
    assert isinstance(queue.broker, RedisBroker)
    return queue.broker


async def now_of(broker: RedisBroker) -> float:
    seconds, micros = await broker.client.redis.time()
    return int(seconds) + int(micros) / 1e6


class Written:
    """A history as another recorder would have left it, for records at chosen times."""

    def __init__(self) -> None:
        self.bytes = bytearray(QUEUE_RINGS.size)

    def put(
        self,
        number: int,
        step: int,
        gauges: tuple[int, ...] = GAUGES,
        totals: tuple[int, ...] = (0,) * 4,
        part: int | None = None,
    ) -> None:
        """`part`: in which the step was recorded last; the last of the step."""
        ring = QUEUE_RINGS.rings[number]
        lap, slot = divmod(step, ring.shape.records)
        packed = lap.to_bytes(3, "big") + rings.packed_gauges(gauges[: ring.shape.gauges])
        if ring.shape.totals:
            packed += b"".join(total.to_bytes(width, "big") for total, width in zip(totals, (5, 5, 4, 5), strict=True))
        if ring.shape.parts:
            packed += bytes([ring.shape.seconds // ring.shape.parts - 1 if part is None else part])
        assert len(packed) == ring.width
        at = ring.first + slot * ring.width
        self.bytes[at : at + ring.width] = packed

    async def store(self, broker: RedisBroker, queue: str = "default") -> None:
        await broker.client.redis.set(broker.keys_of(queue).history, bytes(self.bytes), px=600_000)


def assert_just_now(line: list[int | None], figure: int) -> None:
    """A sparkline of a queue that was recorded for the first time now; a minute may have begun since."""
    assert line in ([*[None] * 59, figure], [*[None] * 58, figure, None])


async def test_what_was_recorded_is_read_in_every_span(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 3)
    before = await now_of(broker)
    assert await recorder.record() == {}
    after = await now_of(broker)
    for span, seconds in (("1h", 15), ("24h", 300), ("7d", 1800)):
        found = await read(broker, "default", span)  # type: ignore[arg-type]
        assert found.step_seconds == seconds
        [point] = found.points
        assert point.at.tzinfo is UTC
        assert before - seconds <= point.at.timestamp() <= after
        assert (point.ready, point.running, point.delayed, point.blocked, point.dead) == (3, 0, 0, 0, 0)
        assert 0 <= point.oldest_age_seconds < 60
        # One point has nothing to be compared with.
        assert point.enqueued_per_second is point.finished_per_second is point.failed_per_second is None
        assert point.busy_slots is None
    lines = await sparklines(broker, ["default", "never-seen"])
    assert lines.keys() == {"default", "never-seen"}
    assert_just_now(lines["default"], 3)
    assert lines["never-seen"] == [None] * 60


async def test_a_queue_that_nobody_recorded_has_no_points(broker: RedisBroker) -> None:
    assert (await read(broker, "never-seen")).points == []
    with pytest.raises(ConfigurationError, match="span is '2h': use one of 1h, 24h, 7d"):
        await read(broker, "never-seen", "2h")  # type: ignore[arg-type]


async def test_rates_are_the_differences_of_totals_over_the_time_between(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 30)
    written, step = Written(), int(await now_of(broker)) // 15
    written.put(1, step - 4)  # a minute before, with nothing between: the recorder was away
    await written.store(broker)
    await recorder.record()
    first, last = (await read(broker, "default")).points
    assert first.enqueued_per_second is None
    passed = (last.at - first.at).total_seconds()
    assert passed in (60, 75)  # the time between may cross a step
    assert last.enqueued_per_second == 30 / passed
    assert last.finished_per_second == last.failed_per_second == last.busy_slots == 0


async def test_every_figure_of_a_queue_comes_back_as_itself(broker: RedisBroker) -> None:
    stats = QueueStats(
        ready=1, in_flight=2, delayed=3, due=9, blocked=4, dead=5, oldest_age_seconds=6.5, paused=False,
        enqueued_total=7000, finished_total=800, failed_total=90, busy_ms_total=1_234_567,
    )  # fmt: skip
    written, step = Written(), int(await now_of(broker)) // 15
    written.put(1, step - 2)
    await written.store(broker)
    key = broker.keys_of("default").history
    await broker.call(calls.record(key, QUEUE_RINGS, rings.gauges_of(stats), rings.totals_of(stats)))
    first, last = (await read(broker, "default")).points
    passed = (last.at - first.at).total_seconds()
    assert (last.ready, last.running, last.delayed, last.blocked, last.dead) == (1, 2, 3, 4, 5)
    assert last.oldest_age_seconds == 6.5
    assert (last.enqueued_per_second, last.finished_per_second) == (7000 / passed, 800 / passed)
    assert (last.failed_per_second, last.busy_slots) == (90 / passed, 1234.5 / passed)


async def test_busy_slots_are_the_busy_time_over_the_time_between(broker: RedisBroker) -> None:
    written, step = Written(), int(await now_of(broker)) // 15
    written.put(1, step - 2, totals=(10, 10, 1, 1000))
    written.put(1, step - 1, totals=(40, 25, 4, 1000 + 15 * 10 * 8))  # 8 slots, 15 s, in tenths of a second
    await written.store(broker)
    _, last = (await read(broker, "default")).points
    assert (last.enqueued_per_second, last.finished_per_second, last.failed_per_second) == (2, 1, 0.2)
    assert last.busy_slots == 8


async def test_the_rate_of_a_long_step_that_is_not_over_counts_only_the_time_so_far(broker: RedisBroker) -> None:
    now = await now_of(broker)
    written, step = Written(), int(now) // 1800
    written.put(3, step - 1, totals=(0, 0, 0, 0))
    passed = now - step * 1800
    totals = (round(passed * 10), 0, 0, 0)  # ten a second since the step began
    written.put(3, step, totals=totals, part=int(passed) // 15)
    await written.store(broker)
    _, last = (await read(broker, "default", "7d")).points
    assert last.enqueued_per_second is not None
    assert last.enqueued_per_second == pytest.approx(10, abs=10 * 31 / passed)


@pytest.mark.parametrize(("span", "number", "length"), [("24h", 2, 300), ("7d", 3, 1800)])
async def test_the_rate_of_a_long_step_is_right_when_nobody_recorded_for_a_part_of_it(
    broker: RedisBroker, span: Any, number: int, length: int
) -> None:
    """Ten tasks a second; the recorder is away from 30 s after the begin of a step to the end of the next one."""
    written, step = Written(), int(await now_of(broker)) // length
    for at, part in ((step - 4, length // 15 - 1), (step - 3, 1), (step - 2, length // 15 - 1)):
        total = 10 * ((at - step + 10) * length + (part + 1) * 15)
        written.put(number, at, totals=(total, 0, 0, 0), part=part)
    await written.store(broker)
    found = [point.enqueued_per_second for point in (await read(broker, "default", span)).points]
    assert found == [None, 10, 10]


async def test_a_record_has_the_part_of_the_step_in_which_it_was_written(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 1)
    before = await now_of(broker)
    await recorder.record()
    after = await now_of(broker)
    for ring in QUEUE_RINGS.rings[2:]:
        key, last = broker.keys_of("default").history, ring.first + ring.size - 1
        [record] = ring.written(await broker.client.redis.getrange(key, ring.first, last), int(after * 1000))
        begin = record.step * ring.shape.seconds + record.part * 15
        assert before - 15 < begin <= after


@pytest.mark.parametrize(("span", "number", "length"), [("24h", 2, 300), ("7d", 3, 1800)])
async def test_a_part_that_no_step_has_is_the_last_of_it(
    broker: RedisBroker, span: Any, number: int, length: int
) -> None:
    """Another program has written it: the time between two records is never nothing, or less."""
    step = int(await now_of(broker)) // length
    for part in (length // 15 - 1, length // 15, length // 15 + 1, 255):
        written = Written()
        written.put(number, step - 2, totals=(0, 0, 0, 0), part=part)
        written.put(number, step - 1, totals=(30, 0, 0, 0), part=0)
        await written.store(broker)
        found = [point.enqueued_per_second for point in (await read(broker, "default", span)).points]
        assert found == [None, 2]


async def test_counters_that_start_anew_give_no_rate_and_then_rates_again(broker: RedisBroker) -> None:
    written, step = Written(), int(await now_of(broker)) // 15
    for ago, total in ((4, 5000), (3, 5150), (2, 15), (1, 30)):
        written.put(1, step - ago, totals=(total, 0, 0, 0))
    await written.store(broker)
    found = [point.enqueued_per_second for point in (await read(broker, "default")).points]
    assert found == [None, 10, None, 1]


async def test_totals_go_on_beyond_the_bytes_that_they_are_kept_in(broker: RedisBroker) -> None:
    written, step = Written(), int(await now_of(broker)) // 15
    written.put(1, step - 2, totals=(2**40 - 10, 0, 0, 0))
    written.put(1, step - 1, totals=(5, 0, 0, 0))
    await written.store(broker)
    assert (await read(broker, "default")).points[-1].enqueued_per_second == 1


async def test_a_long_step_keeps_the_largest_of_each_gauge_and_the_last_totals(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 7)
    await recorder.record()
    await queue.purge("default")
    await send(queue, 2)
    await recorder.record()
    points = (await read(broker, "default", "7d")).points
    assert max(point.ready for point in points) == 7
    ring = QUEUE_RINGS.rings[3]
    part = await broker.client.redis.getrange(broker.keys_of("default").history, ring.first, ring.first + ring.size - 1)
    *_, record = ring.written(part, int(await now_of(broker) * 1000))
    assert record.totals[0] == 9
    # A minute may have begun before or after the second record.
    assert (await sparklines(broker, ["default"]))["default"][-2:] in ([None, 7], [7, 2], [7, None])


async def test_a_clock_that_goes_back_hides_what_it_had_said_and_writes_over_it(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    """The rings of a Redis whose clock was half an hour ahead, until it was set right."""
    await send(queue, 4)
    now = await now_of(broker)
    written, step = Written(), int(now) // 15
    for ahead in range(-10, 120):
        written.put(1, step + ahead, (9,) * 6, (1000 + ahead, 0, 0, 0))
    await written.store(broker)
    await recorder.record()
    points = (await read(broker, "default")).points
    assert len(points) == len({point.at for point in points}) in (11, 12)
    assert points[-1].at.timestamp() <= await now_of(broker)
    # The step to come has no figures of the wrong clock any more, which would be the largest in it.
    key, ring = broker.keys_of("default").history, QUEUE_RINGS.rings[1]
    part = await broker.client.redis.getrange(key, ring.first, ring.first + ring.size - 1)
    written_steps = {record.step for record in ring.written(part, round((now + 3000) * 1000))}
    last = int(points[-1].at.timestamp()) // 15
    assert last in written_steps
    assert last + 1 not in written_steps
    assert last + 2 in written_steps


async def test_a_record_of_the_lap_before_is_not_one_of_now(broker: RedisBroker) -> None:
    written, step = Written(), int(await now_of(broker)) // 15
    written.put(1, step - 241, (9,) * 6)
    written.put(1, step - 3, (1,) * 6)
    await written.store(broker)
    assert [point.ready for point in (await read(broker, "default")).points] == [1]


async def test_figures_larger_than_their_bytes_are_the_largest_that_fit(broker: RedisBroker) -> None:
    assert rings.packed_gauges([2**53, -1, 1.6]) == b"\xff\xff\xff\xff" + bytes(4) + b"\0\0\0\2"


FOREIGN: list[tuple[str, tuple[Any, ...]]] = [
    ("HSET", ("field", "value")),
    ("RPUSH", ("x" * 100,)),
    ("SET", ("a text of another program",)),
    ("SET", ("x" * (QUEUE_RINGS.size + 1),)),
    ("ZADD", ("1", "member")),
]


async def test_the_doctor_knows_the_keys_of_a_history_and_finds_those_of_another_program(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 1)
    await send(queue, 1, "other")
    await recorder.record()
    await record_decision(broker, "shop/orders", DecisionRecord(datetime.now(UTC), 1, 2, 2, "Backlog", "m"))
    await broker.call(calls.elect(broker.fleet, "someone", ttl_ms=60_000))

    async def found() -> dict[str, str]:
        checkup = await look(broker, ["default", "other"])
        return {one.code: one.what for one in checkup.findings if one.severity == "error"}

    assert await found() == {}
    redis, names = broker.client.redis, broker.keys_of("default")
    fleet = [name async for name in broker.client.scan(f"{broker.prefix}:{{fleet}}:*")]
    assert len(fleet) == 6, "who sent the tasks, and five keys of histories"
    for key in (names.history, *fleet):
        await redis.persist(key)
        assert "no time to live" in (await found())["key-stays"]
        await redis.pexpire(key, 60_000)
    await redis.set(names.history, "text", px=60_000)
    assert "a text of 4 bytes of another program" in (await found())["history-foreign"]
    await redis.delete(names.history)
    await redis.hset(names.history, "a", "b")
    assert "is a hash of another program" in (await found())["history-foreign"]
    await redis.delete(names.history)


@pytest.mark.orphans("another program writes under the key of a history")
@pytest.mark.parametrize(("command", "arguments"), FOREIGN)
async def test_what_another_program_writes_under_the_key_stays_and_stops_no_other_queue(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder, command: str, arguments: tuple[Any, ...]
) -> None:
    await send(queue, 1)
    await send(queue, 2, "other")
    key = broker.keys_of("default").history
    await broker.client.redis.execute_command(command, key, *arguments)
    before = await broker.client.redis.dump(key)
    skipped = await recorder.record()
    assert skipped.keys() == {"default"}
    assert "\n" not in str(skipped["default"])
    assert await broker.client.redis.dump(key) == before
    assert [point.ready for point in (await read(broker, "other")).points] == [2]
    with pytest.raises(BrokerConnectionError, match=r"^[^\n]+$") as refused:
        await read(broker, "default")
    assert "another program" in str(refused.value)
    lines = await sparklines(broker, ["default", "other"])
    assert lines.keys() == {"default", "other"}
    assert lines["default"] == [None] * 60
    assert_just_now(lines["other"], 2)


async def test_foreign_bytes_of_the_right_length_are_no_points(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 1)
    for filling in (b"x" * QUEUE_RINGS.size, os.urandom(QUEUE_RINGS.size)):
        await broker.client.redis.set(broker.keys_of("default").history, filling, px=60_000)
        assert len((await read(broker, "default", "7d")).points) <= 1  # chance, once in 50,000 runs
    await recorder.record()
    assert (await read(broker, "default")).points[-1].ready == 1


async def test_of_two_recorders_one_records_and_gives_way_when_it_ends(queue: TaskQueue, broker: RedisBroker) -> None:
    await send(queue, 1)
    first, second = (Recorder(broker, step_seconds=0.05, hold_seconds=30) for _ in range(2))
    tasks = [asyncio.create_task(first.run())]
    try:
        await until(lambda: first.turns > 2, "the first one records")
        tasks.append(asyncio.create_task(second.run()))
        before = first.turns
        await until(lambda: first.turns > before + 5, "the first one goes on")
        assert second.turns == 0
        assert not second.records
        await end(tasks[:1])
        await until(lambda: second.turns > 0, "the second one follows at once, not after 30 s")
    finally:
        await end(tasks)
    assert not await broker.client.redis.exists(broker.fleet.recorder)


RECORDS = """
import asyncio, sys
from taskfleet.history import Recorder
from taskfleet.redis.broker import RedisBroker
async def main():
    recorder = Recorder(RedisBroker.from_url(sys.argv[1], prefix=sys.argv[2]), step_seconds=0.05, hold_seconds=0.5)
    asyncio.ensure_future(recorder.run())
    while not recorder.turns:
        await asyncio.sleep(0.01)
    print("records", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def recorder_process(broker: RedisBroker) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RECORDS, broker.url, broker.prefix, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"records\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_when_the_recorder_is_killed_another_one_follows(queue: TaskQueue, broker: RedisBroker) -> None:
    await send(queue, 1)
    second = Recorder(broker, step_seconds=0.05, hold_seconds=0.5)
    async with recorder_process(broker) as process:
        task = asyncio.create_task(second.run())
        try:
            await asyncio.sleep(0)  # it asks, and may not
            await until(lambda: broker.client.redis.exists(broker.fleet.recorder), "one records")
            process.kill()
            await until(lambda: second.turns > 0, "the second one follows")
        finally:
            await end([task])


async def test_a_recorder_that_stood_still_sees_that_it_was_replaced(queue: TaskQueue, broker: RedisBroker) -> None:
    await send(queue, 1)
    second = Recorder(broker, step_seconds=0.05, hold_seconds=30)
    async with recorder_process(broker) as process:
        process.send_signal(signal.SIGSTOP)
        task = asyncio.create_task(second.run())
        try:
            await until(lambda: second.turns > 0, "the second one follows")
            process.send_signal(signal.SIGCONT)
            turns = second.turns
            await until(lambda: second.turns > turns + 10, "the second one goes on recording")
            assert second.records
        finally:
            process.send_signal(signal.SIGCONT)
            await end([task])


async def test_a_turn_that_took_too_long_ends_when_another_one_records(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 1)
    recorder.records = True  # it believes so, since long ago
    await broker.call(calls.elect(broker.fleet, "another", ttl_ms=60_000))
    assert await recorder.record() == {}
    assert not recorder.records
    assert not await broker.client.redis.exists(broker.keys_of("default").history)


async def test_a_recorder_goes_on_after_redis_was_away(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server:
        broker = RedisBroker.from_url(server.url, prefix="app", command_timeout=0.5, connect_timeout=0.5)
        await broker.client.redis.sadd(broker.fleet.queues, "default")
        recorder = Recorder(broker, step_seconds=0.05)
        task = asyncio.create_task(recorder.run())
        try:
            await until(lambda: recorder.turns > 0, "it records")
            server.stop()
            await until(lambda: "figures over time are not recorded: cannot reach Redis" in caplog.text, "it says so")
            server.start()
            turns = recorder.turns
            await until(lambda: recorder.turns > turns, "it records again")
            lines = [line for line in caplog.messages if "not recorded" in line]
            assert len(lines) < 10
        finally:
            await end([task])
            await broker.close()


async def many_queues(broker: RedisBroker, count: int) -> None:
    names = [f"queue-{number}" for number in range(count)]
    await broker.client.redis.sadd(broker.fleet.queues, *names)
    pipeline = broker.client.redis.pipeline(transaction=False)
    for name in names:
        pipeline.hset(broker.keys_of(name).stat, "enqueued", 1)
    await pipeline.execute()


async def test_a_thousand_queues_cost_two_calls_each_and_no_more_a_second_than_the_bound(broker: RedisBroker) -> None:
    recorder = Recorder(broker, partitions_per_second=1000)
    await many_queues(broker, 1)
    await recorder.record()  # the server has the scripts from now on
    await many_queues(broker, 1000)
    redis = broker.client.redis
    await redis.config_resetstat()
    began = time.monotonic()
    assert await recorder.record() == {}
    seconds = time.monotonic() - began
    assert seconds >= (1000 - 50) / 1000 * 0.95
    stats = {
        name.removeprefix("cmdstat_"): entry["calls"] for name, entry in (await redis.info("commandstats")).items()
    }
    assert stats["evalsha"] == 2000
    assert stats["smembers"] == 1
    # Inside the scripts a queue takes about thirty short commands; none of them grows with the queue.
    assert sum(stats.values()) < 2001 + 40 * 1000
    # By default that is at most 200 calls a second, whatever the number of queues.
    assert Recorder(broker)._rate == 100
    assert len(await sparklines(broker, [f"queue-{n}" for n in range(1000)])) == 1000


async def test_the_memory_of_a_queue_is_fixed_and_as_the_page_says(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 5)
    await recorder.record()
    key = broker.keys_of("default").history
    redis = broker.client.redis
    used = await redis.memory_usage(key)
    assert await redis.strlen(key) == QUEUE_RINGS.size == 40_788
    whole, now = Written(), int(await now_of(broker))
    for number, ring in enumerate(QUEUE_RINGS.rings):
        for ago in range(ring.shape.records):
            whole.put(number, now // ring.shape.seconds - ago, (5,) * 6, (ago,) * 4)
    await redis.setrange(key, 0, bytes(whole.bytes))  # a week later
    await recorder.record()
    assert await redis.memory_usage(key) == used
    told = re.search(r"([\d,]+) bytes of memory for each queue", PAGE.read_text())
    assert told is not None
    assert used <= int(told[1].replace(",", "")) <= used * 1.05
    assert 7 * 86_400 < await redis.ttl(key) <= 8 * 86_400


async def test_a_purge_of_a_queues_keys_takes_its_history_too(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await send(queue, 1)
    await send(queue, 1, "other")
    await recorder.record()
    await broker.purge_keys(["default"])
    assert not await broker.client.redis.exists(broker.keys_of("default").history)
    assert await broker.client.redis.exists(broker.keys_of("other").history)
    await recorder.record()
    assert not await broker.client.redis.exists(broker.keys_of("default").history)


async def test_a_recorder_that_has_listed_a_queue_before_its_purge_makes_no_history_of_it(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(queue, 1)
    await recorder.record()
    listed = await broker.partitions()
    await broker.purge_keys(["default"])

    async def partitions(name: str | None = None) -> list[Partition]:
        return listed

    monkeypatch.setattr(broker, "partitions", partitions)
    assert await recorder.record() == {}
    assert not await broker.client.redis.exists(broker.keys_of("default").history)


async def test_a_queue_without_tasks_gets_no_history_and_one_that_had_some_goes_on(
    queue: TaskQueue, broker: RedisBroker, recorder: Recorder
) -> None:
    await queue.pause("never-used")
    await send(queue, 1)
    await recorder.record()
    assert not await broker.client.redis.exists(broker.keys_of("never-used").history)
    await queue.resume("never-used")
    key = broker.keys_of("default")
    await broker.client.redis.delete(key.stat, key.ready, key.task)  # as after FLUSHALL, but for the history
    await broker.client.redis.pexpire(key.history, 60_000)
    await recorder.record()
    assert await broker.client.redis.pttl(key.history) > 60_000


async def test_the_partitions_of_a_queue_are_one_history(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[QueueOptions(name="wide", partitions=8)])
    await send(queue, 40, "wide")
    await Recorder(broker_of(queue), partitions_per_second=1e9).record()
    assert [point.ready for point in (await read(broker_of(queue), "wide")).points] == [40]


@pytest.mark.orphans("another program writes into a partition")
async def test_a_queue_of_which_one_partition_cannot_be_read_gets_no_figures_of_the_others(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(queues=[QueueOptions(name="wide", partitions=4)])
    broker = broker_of(queue)
    await send(queue, 40, "wide")
    await send(queue, 2, "other")
    await broker.client.redis.delete(broker.keys_of("wide/1").ready)
    await broker.client.redis.set(broker.keys_of("wide/1").ready, "text")
    recorder = Recorder(broker, partitions_per_second=1e9)
    assert (await recorder.record()).keys() == {"wide"}
    assert (await read(broker, "wide")).points == []
    assert [point.ready for point in (await read(broker, "other")).points] == [2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


async def test_on_a_cluster_every_queue_has_its_history_on_its_own_server(
    cluster: RedisCluster, make_queue: MakeQueue
) -> None:
    queue = make_queue(cluster.url, queues=[QueueOptions(name="wide", partitions=4), "a", "b", "c", "d"])
    for number, name in enumerate("abcd"):
        await send(queue, number + 1, name)
    await send(queue, 12, "wide")
    recorder = Recorder(broker_of(queue), step_seconds=0.1)
    task = asyncio.create_task(recorder.run())
    try:
        await until(lambda: recorder.turns > 1, "it records")
    finally:
        await end([task])
    assert recorder.skipped == {}
    for number, name in enumerate("abcd"):
        assert (await read(broker_of(queue), name)).points[-1].ready == number + 1
    lines = await sparklines(broker_of(queue), ["a", "b", "c", "d", "wide", "never"])
    assert [line[-1] or line[-2] for line in lines.values()] == [1, 2, 3, 4, 12, None]


async def test_a_recorder_that_fails_in_another_way_is_started_again_by_its_supervisor(
    broker: RedisBroker, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("odd"), RuntimeError("odd")]

    async def record() -> dict[str, Any]:
        if failures:
            raise failures.pop()
        return {}

    monkeypatch.setattr(recorder, "record", record)
    task = asyncio.create_task(supervise("the recorder", recorder.run))
    try:
        await until(lambda: recorder.turns > 0, "it records")
        assert "the recorder has ended by an error" in caplog.text
    finally:
        await end([task])
