"""Foreign data in Redis, by mistake or on purpose, is skipped and logged, and stops nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import struct
import time
from typing import Any

import msgpack
import pytest

from taskfleet import SerializationError, TaskExecutionError, TaskQueue, chain, group
from taskfleet.process.exposition import exposition
from taskfleet.process.metrics import WorkerCollector
from taskfleet.protocol.claim import Renewal
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import keys
from taskfleet.redis.broker import RedisBroker
from taskfleet_operator.autoscaler import NO_OVERRIDES
from taskfleet_operator.resource.autoscaler_spec import AutoscalerSpec
from taskfleet_operator.scaling import sampling
from taskfleet_operator.scaling.order import QueueTarget, ScalingOrder
from taskfleet_operator.scaling.sampling import Replicas
from taskfleet_operator.scaling.shared_redis import SharedRedis
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.test_command import run

pytestmark = pytest.mark.orphans("it writes records as other programs do")

BAD_NAMES = [
    b"\xff", b"", b"a" * 256, b"b\x1b[2J", b"two\nlines", b"{", b"}", "rtl\u202eabc".encode(), b"c/0", b"c/-1", b"c/x",
    b"\xed\xb3\xbf", b"default/99999999999", b"n" * 300_000,
]  # fmt: skip
BAD_MESSAGES = [b"\xff", b"", b"cancel", b"cancel \xff", b"cordon \xff", b"\x00" * 300_000, b"x" * 20, b"cancel a\nb"]


@pytest.fixture
def broker(queue: TaskQueue) -> RedisBroker:
    assert isinstance(queue.broker, RedisBroker)
    return queue.broker


@pytest.fixture
def shared(queue: TaskQueue, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> TaskQueue:
    """The queue, in the environment of the command."""
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", broker.prefix)
    return queue


@pytest.mark.parametrize("keys", [[], ["a signing key of some length"]], ids=["plain", "signed"])
async def test_a_forged_end_does_not_reach_who_waits_for_the_task(
    make_queue: MakeQueue, run_worker: RunWorker, keys: list[str]
) -> None:
    queue = make_queue(**({"signing_keys": keys} if keys else {}))
    release = asyncio.Event()

    @queue.task
    async def late() -> int:
        await release.wait()
        return 7

    await run_worker(queue)
    handle = await late.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=60))
    await until(lambda: queue.sessions.current().completions.is_subscribed(Partition("default")), "it waits")
    assert isinstance(queue.broker, RedisBroker)
    channel, client = queue.broker.keys_of("default").ended_channel, queue.broker.client.redis
    for record in (b"", b"\xc1", b"\x91\xa9succeeded", b"\x92\xa9succeeded", b"x" * 9000, b"\x00" * 300_000):
        await client.publish(channel, handle.id.encode() + b"\0" + record)
        await asyncio.sleep(0.05)
    assert not waiting.done()
    release.set()
    assert await waiting == 7


@pytest.mark.parametrize("channel", ["control", "endings", "activity", "schedules"])
async def test_a_listener_survives_any_published_message(broker: RedisBroker, channel: str) -> None:
    listening, name = {
        "control": (broker.control, broker.fleet.control_channel),
        "endings": (lambda: broker.endings("default"), broker.keys_of("default").done_channel),
        "activity": (broker.activity, broker.fleet.activity),
        "schedules": (broker.schedules.changes, broker.fleet.schedules_channel),
    }[channel]
    heard: list[str] = []

    async def listen() -> None:
        async for message in listening():
            heard.append(message if isinstance(message, str) else message[0])  # an end comes with its record

    task = asyncio.create_task(listen())
    await until(lambda: heard, "it has subscribed")
    for message in [*BAD_MESSAGES, b"good"]:
        await broker.client.redis.publish(name, message)
    await until(lambda: heard[-1] == "good", "it still listens")
    assert heard[1] == "\\xff"
    assert max(map(len, heard)) <= 65_536
    assert not task.done()
    task.cancel()


async def test_a_worker_goes_on_among_foreign_messages_and_names(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker
) -> None:
    @queue.task
    async def forever() -> None:
        await asyncio.sleep(3600)

    redis = broker.client.redis
    await redis.sadd(broker.fleet.queues, *BAD_NAMES)
    worker = await run_worker(queue)
    for message in BAD_MESSAGES:
        await redis.publish(broker.fleet.control_channel, message)
        await redis.publish(broker.fleet.activity, message)
        await redis.publish(broker.keys_of("default").done_channel, message)
    handle = await forever.enqueue()
    await until(lambda: worker.slots.running, "it runs")
    assert await handle.cancel()  # through the control channel
    await until(lambda: not worker.slots.running, "the control listener has heard of it")
    assert worker.selection.queues == ["default"]
    assert b'taskfleet_foreign_records_total{kind="queue name"}' in exposition(WorkerCollector.of(worker))[0]
    assert await handle.status() == "cancelled"


async def test_names_that_are_no_queues_are_left_out_and_counted(
    queue: TaskQueue, broker: RedisBroker, caplog: pytest.LogCaptureFixture
) -> None:
    await broker.client.redis.sadd(broker.fleet.queues, *BAD_NAMES, b"good", b"default/3")
    with caplog.at_level(logging.WARNING):
        assert sorted(await queue.get_metrics()) == ["default", "good"]
    assert broker.skipped.counts["queue name"] >= len(BAD_NAMES)
    assert await queue.list_schedules() == []
    assert await broker.schedules.partitions() == ["default/3", "good"]
    assert "skipped a queue name that Taskfleet did not write" in caplog.text
    assert len(caplog.messages) <= 3
    assert all(message.isprintable() and len(message) < 10_000 for message in caplog.messages)


async def test_the_command_shows_no_foreign_bytes(shared: TaskQueue, broker: RedisBroker) -> None:
    redis = broker.client.redis
    await redis.sadd(broker.fleet.queues, *BAD_NAMES, b"good")
    evil = "\x1b]0;owned\x07\u202e\x9b31m\r\n"
    letter = msgpack.packb(
        [evil, 1, 1, time.time() * 1000, b"\xff", msgpack.packb([evil, evil * 5000, evil])], use_bin_type=False
    )
    names = broker.keys_of("good")
    await redis.hset(names.letter, mapping={f"id{evil}": letter, b"\xff": letter, b"x" * 300_000: letter})
    await redis.zadd(names.dead, {f"id{evil}": 1, b"\xff": 2, b"x" * 300_000: 3})
    record = msgpack.packb([evil, evil])
    await redis.set(broker.keys_of("good").result("ended"), record, px=60_000)
    for arguments in (
        ["queues"], ["dead", "list", "good"], ["task", "show", "ended"], ["schedules", "list"], ["task", "list"],
        ["task", "search", "owned"], ["workers"], ["dead", "requeue", "good", "id", "--yes"],
    ):  # fmt: skip
        code, out, errors = await run(*arguments)
        assert "Traceback" not in errors, errors
        assert code == (1 if "requeue" in arguments else 0), (arguments, errors)
        assert (out + errors).replace("\n", "").isprintable(), arguments
        assert max(map(len, (out + errors).splitlines())) < 10_000
    code, out, _ = await run("queues", "--json")
    assert (code, [each["name"] for each in json.loads(out)["items"]]) == (0, ["good"])
    code, out, _ = await run("dead", "list", "good", "--json")
    assert (code, len(json.loads(out)["items"])) == (0, 3)
    assert out.replace("\n", "").isprintable()


NONSENSE: list[dict[str, Any]] = [
    {"busy": "NaN"},
    {"busy": "inf"},
    {"busy": "1e999"},
    {"busy": ""},
    {"busy": "-1"},
    {"slots": b"\xff"},
    {"pid": "0x10"},
    {"started_ms": "9" * 5000},
    {"idle_since_ms": "1e300"},
    {"name": "n" * 1000},
    {"state": "s" * 300_000},
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda fields: next(iter(fields)))
async def test_a_heartbeat_of_nonsense_does_not_freeze_scaling(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker, nonsense: dict[str, Any]
) -> None:
    worker = await run_worker(queue)
    await until(broker.workers, "its first heartbeat")
    broker.skipped.counts.clear()
    redis = broker.client.redis
    now = time.time() * 1000
    await redis.zadd(broker.fleet.workers, {"evil/0": now, b"\xff": now, "gone/0": now})
    await redis.hset(broker.fleet.worker("evil/0"), mapping={"name": "evil", "slots": 4, "busy": 1} | nonsense)
    await redis.hset(broker.fleet.worker("\\xff"), mapping={"name": b"\xff", "busy": "\x1b"})
    (info,) = await broker.workers()
    assert info.worker_id == worker.identity.worker_id
    assert broker.skipped.counts["heartbeat"] == 2
    order = ScalingOrder((QueueTarget("default"),), AutoscalerSpec(), NO_OVERRIDES, concurrency=4, processes=1)
    redis = SharedRedis("Redis", broker, lambda _queue: None)
    observed = await sampling.observe(redis, order, Replicas(1, 1, 0, {worker.identity.name: 60.0, "evil": 60.0}))
    await redis.close()
    seen, reading = observed.sample, observed.reading
    assert seen.failure == ""
    assert reading is not None
    assert seen.workers_registered == 1


@pytest.mark.parametrize("score", ["inf", "-inf", "-5", "1e300"])
async def test_a_heartbeat_of_no_time_is_left_out(broker: RedisBroker, score: str) -> None:
    redis = broker.client.redis
    await redis.zadd(broker.fleet.workers, {"evil/0": score, "good/0": time.time() * 1000, "list/0": 5})
    await redis.hset(broker.fleet.worker("evil/0"), "name", "evil")
    await redis.hset(broker.fleet.worker("good/0"), mapping={str(n): n for n in range(1000)} | {"name": "good"})
    await redis.rpush(broker.fleet.worker("list/0"), 1)  # no hash at all
    assert [(info.name, info.state, info.slots) for info in await broker.workers()] == [("good", "starting", 0)]


@pytest.mark.parametrize(
    "counter", ["enqueued", "finished", "failed", "busy_ms", "removed", "deferred", "retried", "unrun"]
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "-7", "\x1b", ""])
async def test_statistics_are_numbers_for_any_content_of_the_counters(
    queue: TaskQueue, broker: RedisBroker, counter: str, value: str
) -> None:
    names = broker.keys_of("default")
    await broker.client.redis.hset(names.stat, counter, value)
    await broker.client.redis.zadd(names.delayed, {"early": "-inf", "late": "inf"})
    stats = await queue.queue_stats("default", horizon=1e9)
    totals = ("finished_total", "failed_total", "busy_ms_total", "enqueued_total", "runnable_total", "attempts_total")
    for name in ("ready", "oldest_age_seconds", *totals):
        assert 0 <= getattr(stats, name) < 2**53, name


_ODD_TICKS: list[tuple[bytes, Any]] = [
    (b"\xff", 1), (b"empty-state", 1), (b"n" * 999, 1), (b"low", "-inf"), (b"high", "inf"), (b"e", 1e300),
]  # fmt: skip


async def test_schedules_tick_beside_foreign_records(
    make_queue: MakeQueue, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue()
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    ran = asyncio.Event()

    @queue.task
    async def beat() -> None:
        ran.set()

    redis = broker.client.redis
    await queue.add_schedule(name="beat", every=1, task=beat)
    specs, ticks, ticked = broker.keys_of("default").schedules
    sound = await redis.hget(specs, "beat")
    fields = msgpack.unpackb(sound, raw=True)
    spoilt = [b"\xc1", b"", b"\x00", *(msgpack.packb([*fields[:n], 7, *fields[n + 1 :]]) for n in (1, 3, 4, 7, 9, 13))]
    for n, spec in enumerate([*spoilt, b"\x93\x01\x02\x03"]):
        await redis.hset(specs, f"bad-{n}", spec)
        await redis.zadd(ticks, {f"bad-{n}": 1})
    for n, (name, score) in enumerate(
        [(b"\xff", 1), (b"n" * 999, 1), (b"low", "-inf"), (b"high", "inf"), (b"e", 1e300)]
    ):
        await redis.hset(specs, name, sound)
        await redis.zadd(ticks, {name: score})
        await redis.hset(ticked, name, b"\xc1" * (n // 2))
    await redis.hset(specs, "state", sound)
    await redis.zadd(ticks, {"state": 1})
    await redis.hset(ticked, "state", b"\xc1")
    # A queue whose schedule keys have another type.
    await redis.sadd(broker.fleet.queues, "other")
    await redis.set(broker.keys_of("other").schedules.ticks, b"\xff")
    worker = await run_worker(queue)
    await queue.start_scheduler()
    await asyncio.wait_for(ran.wait(), 60)
    await queue.stop_scheduler()
    assert not worker.draining
    assert all(message.isprintable() for message in caplog.messages)
    assert "schedules of queue 'default' do not tick" not in caplog.text
    await redis.delete(broker.keys_of("other").schedules.ticks)
    assert {schedule.name for schedule in await queue.list_schedules()} >= {"beat"}


async def test_signals_are_delivered_behind_one_that_is_none(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker
) -> None:
    @queue.task
    async def first() -> int:
        return 1

    @queue.task(queue="other")
    async def second(n: int) -> int:
        return n + 1

    from taskfleet import chain

    outbox = broker.keys_of("default").outbox
    evil = [b"\xc1", b"", msgpack.packb([b"\xff", b"id", 0, b"a", b"succeeded", b""]), msgpack.packb([1, 2, 3])]
    await broker.client.redis.rpush(outbox, *evil, msgpack.packb(["other", "id", "x", "a", "succeeded", 5]))
    handle = await queue.enqueue(chain(first.message(), second.message()))
    await run_worker(queue)
    assert await handle.result(timeout=60) == 2
    await until(lambda: _empty(broker, outbox), "nothing of it is left")


async def _empty(broker: RedisBroker, key: str) -> bool:
    return not await broker.client.redis.exists(key)


async def test_a_claim_with_foreign_notes_ends_no_worker(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker
) -> None:
    @queue.task(max_retries=0)
    async def work(n: int) -> int:
        return n

    handles = await queue.enqueue_many([work.message(n) for n in range(8)])
    names = broker.keys_of("default")
    redis = broker.client.redis
    notes = [b"\xff", b"", b":::", b"1:2", b"x:y:z:w", b"1:0:0:\xff"]
    for handle, note in zip(handles, notes, strict=False):
        await redis.hset(names.meta, handle.id, note)
    await redis.hset(names.tag, mapping={handles[0].id: b"\xc1", handles[1].id: b"\x01", handles[2].id: b"\x80"})  # tag
    await redis.hset(names.input, handles[7].id, b"\xc1")  # input
    worker = await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in handles[:7]] == list(range(7))
    with pytest.raises(TaskExecutionError, match="dead"):
        await handles[7].result(timeout=60)
    assert not worker.draining
    assert await handles[7].status() == "dead"


async def test_damaged_dead_letters_do_not_keep_others_from_going_back(queue: TaskQueue, broker: RedisBroker) -> None:
    @queue.task
    async def work() -> None: ...

    good = msgpack.packb(["failed", 1, 1, 0, struct.pack(">d", 0) + b"x", b"", "", ""], use_bin_type=False)
    names = broker.keys_of("default")
    letters = {"bad": b"\xc1", "short": b"\x90", "odd": msgpack.packb([1] * 8), "good": good}
    await broker.client.redis.hset(names.letter, mapping=letters)
    await broker.client.redis.zadd(names.dead, {name: n for n, name in enumerate(letters)})
    assert len(await queue.dead_letters("default")) == 4
    assert await queue.requeue_dead("default") == 1
    assert [letter.id for letter in await queue.dead_letters("default")] == ["bad", "short", "odd"]
    assert await queue.purge_dead("default") == 3


@pytest.mark.parametrize(
    "record",
    [b"", b"\xff", b"\x00" * 8, struct.pack(">d", float("nan")) + msgpack.packb([1, 2, "n"]),
     struct.pack(">d", 1e300) + msgpack.packb([1, 2, "n"]), struct.pack(">d", 1.0) + msgpack.packb(["a", [], 5])],
)  # fmt: skip
async def test_a_damaged_progress_report_is_a_taskfleet_error(
    queue: TaskQueue, broker: RedisBroker, record: bytes
) -> None:
    @queue.task
    async def work() -> None: ...

    handle = await work.enqueue()
    await broker.client.redis.hset(broker.keys_of("default").progress, handle.id, record)
    with pytest.raises(SerializationError, match="progress report cannot be read"):
        await handle.progress()


async def test_an_id_in_the_log_is_one_bounded_line(queue: TaskQueue, run_worker: RunWorker, caplog: Any) -> None:
    worker = await run_worker(queue)
    worker.held["a\nb" + "x" * 300_000] = ("default", 1)
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    await broker.client.redis.hset(keys.of_partition(broker.prefix, "default").cancel, "a\nb\x1b", 1)
    logging.getLogger("taskfleet.worker").warning("task %s was taken over", "a\nb\x1b[2J" + "x" * 300_000)
    assert all(message.isprintable() and len(message) < 10_000 for message in caplog.messages)
    worker.held.clear()


_ODD_TAGS = [
    {"u": [1], "l": {}, "f": [1], "p": {}, "n": [[1]], "d": [], "e": "x"},
    {"u": 5, "l": 5, "f": 5, "p": 5, "n": 7, "d": "x", "e": 7},
    {"n": [1, "x", [], ["default", [], 0, 1], ["default", "gone", "x", 1]]},
    {"p": "0000000000000001"},
    {"n": "text"},
]


@pytest.mark.parametrize("tag", _ODD_TAGS)
async def test_a_tag_of_other_types_blocks_no_task(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker, tag: dict[str, Any]
) -> None:
    @queue.task
    async def work() -> int:
        return 1

    odd = await work.enqueue()
    waiting = await work.options(unique_key="key", delay=3600).enqueue()
    cancelled = await work.options(delay=3600).enqueue()
    packed = msgpack.packb(tag)
    names = broker.keys_of("default")
    await broker.client.redis.hset(names.tag, mapping=dict.fromkeys((odd.id, waiting.id, cancelled.id), packed))
    replacing = await work.options(unique_key="key", unique_mode="replace").enqueue()  # takes its position
    assert await cancelled.cancel()
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in (odd, await work.enqueue())] == [1, 1]
    assert (await waiting.status(), await replacing.status()) == ("cancelled", "delayed")


@pytest.mark.parametrize("counter", [b"nan", b"", b"9" * 30, b"9223372036854775807", b"\xff"])
async def test_counters_that_are_no_numbers_stop_no_queue(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker, counter: bytes
) -> None:
    @queue.task
    async def work() -> int:
        return 1

    names = broker.keys_of("default")
    redis = broker.client.redis
    fields = ("enqueued", "finished", "failed", "busy_ms", "removed", "cancelled", "retried", "deferred", "unrun")
    await redis.hset(names.stat, mapping=dict.fromkeys(fields, counter))
    await redis.hset(names.control, "parked", counter)
    await redis.hset(names.slots, "key", counter)
    handles = [await work.options(limit_key="key").enqueue(), await work.enqueue()]
    renewer = await asyncio.to_thread(broker.renewer)
    assert await asyncio.to_thread(renewer.renew, "default", "nobody", 1000, 5, []) == Renewal([], [], [])
    await asyncio.to_thread(renewer.close)
    await run_worker(queue)
    assert [await handle.result(timeout=60) for handle in handles] == [1, 1]
    assert (await queue.queue_stats("default")).finished_total == 2


@pytest.mark.parametrize("record", [b"", b"x", b"1:1:1", b"1:" + b"9" * 12 + b":0:0", b"1:1:999999999999:0", b"\xff"])
async def test_a_workflow_whose_record_is_none_can_be_cancelled(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker, record: bytes
) -> None:
    from taskfleet import chain

    @queue.task
    async def first() -> int:
        return 1

    @queue.task
    async def second(n: int) -> int:
        return n

    last = await queue.enqueue(chain(first.message(), second.message()))
    names = broker.keys_of("default")
    await broker.client.redis.hset(names.gather, last.id, record)
    await run_worker(queue)
    assert await (await first.enqueue()).result(timeout=60) == 1
    assert await last.cancel()
    assert await last.status() == "cancelled"


async def test_work_for_later_that_is_none_is_dropped(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker
) -> None:
    @queue.task
    async def work() -> int:
        return 1

    jobs = [
        ["tell", [1], {}, {}, {}],
        ["tell", "x", None, "s", "v"],
        ["sweep", None, "x"],
        ["sweep", "a", 10**12],
        [],
        {},
    ]
    key = broker.keys_of("default").jobs
    await broker.client.redis.rpush(key, b"\xc1", b"", *map(msgpack.packb, jobs))
    await run_worker(queue)
    assert await (await work.enqueue()).result(timeout=60) == 1
    await until(lambda: _empty(broker, key), "nothing of it is left")


async def test_a_purge_ends_although_waiting_keys_hold_foreign_data(queue: TaskQueue, broker: RedisBroker) -> None:
    @queue.task
    async def work() -> None: ...

    for options in ({}, {"delay": 3600}, {"fair_key": "key"}, {"limit_key": "key"}):
        await work.options(**options).enqueue()
    names = broker.keys_of("default")
    for name in (names.delayed, names.fair, names.parked, names.blocked):
        await broker.client.redis.zadd(name, {b"\xff": 1, b"none": 2, b"a\0b\0c": 3})
    await broker.client.redis.rpush(names.ready, b"\xff", b"none")
    assert await asyncio.wait_for(queue.purge("default"), 60) == 4
    left = await queue.queue_stats("default")
    assert (left.ready, left.delayed, left.blocked) == (0, 0, 0)


async def test_a_schedule_takes_the_place_of_one_that_is_none(queue: TaskQueue, broker: RedisBroker) -> None:
    @queue.task
    async def beat() -> None: ...

    specs, ticks, _ = broker.keys_of("default").schedules
    for spoilt in (b"\xc1", b"", b"\x01", msgpack.packb(["x"])):
        await broker.client.redis.hset(specs, "beat", spoilt)
        await broker.client.redis.zadd(ticks, {"beat": 1})
        await queue.add_schedule(name="beat", every=3600, task=beat)
        assert [schedule.name for schedule in await queue.list_schedules()] == ["beat"]


async def test_large_schedules_are_read_a_bounded_number_of_bytes_at_a_time(
    queue: TaskQueue, broker: RedisBroker
) -> None:
    specs, ticks, _ = broker.keys_of("default").schedules
    for n in range(12):
        await broker.client.redis.hset(specs, f"s{n}", b"x" * (5_000_000 if n == 0 else 1_000_000))
        await broker.client.redis.zadd(ticks, {f"s{n}": n + 1})
    seen: list[list[str]] = []
    for _ in range(4):
        (due,) = await broker.schedules.due(["default"], limit=1000)
        assert due.entries
        seen.append([entry.name for entry in due.entries])
        await broker.client.redis.zrem(ticks, *seen[-1])
        assert due.more == (len(seen) < 4)
    assert seen == [["s0"], ["s1", "s2", "s3", "s4"], ["s5", "s6", "s7", "s8"], ["s9", "s10", "s11"]]


async def test_workers_that_are_long_gone_are_forgotten_a_few_at_a_time(queue: TaskQueue, broker: RedisBroker) -> None:
    await broker.client.redis.zadd(broker.fleet.workers, {f"gone-{n}": 1 for n in range(2500)})
    renewer = await asyncio.to_thread(broker.renewer)
    fields = HeartbeatFields("here", 1, 1, 0, "default", "running", 1, 0, "1", 0)
    left = []
    for _ in range(3):
        await asyncio.to_thread(renewer.heartbeat, "here/1", "here", 10_000, fields)
        left.append(await broker.client.redis.zcard(broker.fleet.workers))
    await asyncio.to_thread(renewer.close)
    assert left == [1501, 501, 1]


async def test_large_dead_letters_are_purged_in_more_calls(queue: TaskQueue, broker: RedisBroker) -> None:
    names = broker.keys_of("default")
    for n in range(3):
        await broker.client.redis.hset(names.letter, f"d{n}", b"x" * 30_000_000)
        await broker.client.redis.zadd(names.dead, {f"d{n}": n})
    assert await queue.purge_dead("default") == 3
    assert not await broker.client.redis.exists(names.dead, names.letter)


@pytest.mark.parametrize("carried", [1, 2])
async def test_a_task_that_is_given_fewer_results_than_it_waits_for_says_so(
    queue: TaskQueue, broker: RedisBroker, run_worker: RunWorker, carried: int
) -> None:
    @queue.task
    async def one() -> int:
        return 1

    @queue.task
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    handle = await queue.enqueue(chain(group(one.message(), one.message(), one.message()), total.message()))
    await broker.client.redis.hset(broker.keys_of("default").gather, handle.id, f"3:3:{carried}:0")
    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match=f"it waits for 3 results and was given {carried}$"):
        await handle.result(timeout=60)


@pytest.mark.parametrize("part", ["meta", "tag", "fair", "input"])
async def test_a_key_of_another_program_takes_no_task_from_its_list(
    make_queue: MakeQueue, run_worker: RunWorker, part: str
) -> None:
    queue = make_queue()

    @queue.task
    async def double(x: int) -> int:
        return 2 * x

    assert isinstance(queue.broker, RedisBroker)
    handle = await double.enqueue(2)
    key, client = getattr(queue.broker.keys_of("default"), part), queue.broker.client.redis
    await client.rpush(key, "theirs")
    await run_worker(queue)
    await asyncio.sleep(0.5)
    await client.delete(key)
    assert await handle.result(timeout=60) == 4
