"""A worker meets foreign payloads and payloads of a newer version."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import struct
import time
from typing import Annotated, Any

import msgpack
import pydantic
import pytest

from taskfleet import NewerVersionError, SerializationError, TaskCancelledError, TaskQueue
from taskfleet.process.exposition import exposition
from taskfleet.process.metrics import WorkerCollector
from taskfleet.protocol import envelope
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.engine.test_command import run
from tests.engine.test_sealing import push, settled

pytestmark = pytest.mark.orphans("it writes records as other programs do")


def stamp(age: float = 0.0) -> bytes:
    return struct.pack(">d", (time.time() - age) * 1000)


def fuzzed(count: int, seed: int) -> list[bytes]:
    """Payloads that a decoder must refuse: random bytes, cuts, flipped bits, odd types, hostile lengths and depths."""
    rng = random.Random(seed)
    found: list[bytes] = []
    while len(found) < count:
        blob = _wild(rng)
        try:
            envelope.decode(blob)
        except NewerVersionError:
            continue
        except SerializationError:
            found.append(blob)
    return found


def _wild(rng: random.Random) -> bytes:
    good = stamp() + envelope.encode("work", [rng.randrange(100)], {"key": "value"}, {"r": 1, "t": 2.5})
    kind = rng.randrange(7)
    if kind == 0:
        return rng.randbytes(rng.randrange(60))
    if kind == 1:
        return good[: rng.randrange(len(good))]
    if kind == 2:
        flipped = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 3:
        values = [1, 2, "work", [], {}, None, 2**64 - 1, -(2**63), 1.5, b"\xff", True, msgpack.ExtType(5, b"x")]
        return stamp() + msgpack.packb([1, *rng.choices(values, k=rng.randrange(6))])
    if kind == 4:
        head = rng.choice([b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"]) + struct.pack(">I", rng.randrange(2**32))
        return stamp() + b"\x94\x01\xa4work" + head + rng.randbytes(20)
    if kind == 5:
        return stamp() + b"\x94\x01\xa4work" + b"\x91" * rng.randrange(1020, 5000)
    setting = {rng.choice("rtxkc"): rng.choice(["x", [], 1e300, True, float("nan")])}
    return stamp() + msgpack.packb([1, "work", [1], {}, setting])


def odd_calls(count: int) -> list[bytes]:
    """Valid envelopes with invalid calls."""
    calls: list[list[Any]] = [
        [1, "nobody", [], {}],
        [1, "work", [], {}],
        [1, "work", [1, 2, 3], {}],
        [1, "work", [1], {"n": 1}],
        [1, "work", [1], {5: 6}],
        [1, "work", [1], {b"\xff": 6}],
        [1, "work", ["text"], {}],
        [1, "work", [msgpack.ExtType(1, b"{")], {}],
        [1, "work", [msgpack.ExtType(1, b"1" * 5000)], {}],
        [1, "work", [2**64 - 1], {}],
        [1, "picky", [1], {}],
        [1, "x" * 100_000, [], {}],
        [1, "\x1b[2J\n\0", [], {}],
    ]
    return [
        stamp() + msgpack.packb(call) for call, _ in zip(calls * (count // len(calls) + 1), range(count), strict=False)
    ]


def refuse(value: int) -> int:
    raise KeyError("a validator's own error")


def define(queue: TaskQueue, done: list[int]) -> Any:
    @queue.task(max_retries=0)
    async def work(n: Annotated[int, pydantic.Field(le=1_000_000)]) -> int:
        done.append(n)
        return n

    @queue.task
    async def picky(n: Annotated[int, pydantic.AfterValidator(refuse)]) -> None: ...

    return work


@pytest.mark.parametrize("options", [{}, {"signing_keys": [b"s" * 32]}], ids=["plain", "signed"])
async def test_a_thousand_bad_payloads_stop_nothing(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(**options)
    done: list[int] = []
    work = define(queue, done)
    bad = [*fuzzed(900, seed=7), *odd_calls(100)]
    for n, blob in enumerate(bad):
        await push(queue, f"bad{n}", blob)
        if n % 10 == 0:
            await work.enqueue(n)
    await queue.queue_stats("default")
    worker = await run_worker(queue)
    await settled(queue)
    assert sorted(done) == list(range(0, 1000, 10))
    letters = await queue.dead_letters("default", limit=2000)
    assert {letter.id for letter in letters} == {f"bad{n}" for n in range(1000)}
    assert all(letter.state == "dead" and letter.error for letter in letters)
    reasons = {letter.reason for letter in letters}
    assert reasons == ({"bad_signature"} if options else {"undecodable", "unknown_task", "bad_arguments"})
    # The worker is alive and works.
    assert await (await work.enqueue(5)).result(timeout=60) == 5
    assert worker.health.alive
    assert worker.health.ready
    # The command lists the dead letters, one line each, and deletes them.
    monkeypatch.setenv("REDIS_URL", queue.url)
    monkeypatch.setenv("TASKFLEET_REDIS__KEY_PREFIX", queue.broker.prefix)
    code, out, errors = await run("dead", "list", "default", "--limit", "2000")
    assert code == 0, errors
    assert len(out.splitlines()) == 1001  # with the heads
    assert "\x1b" not in out
    code, out, errors = await run("dead", "list", "default", "--limit", "2000", "--json")
    assert (code, len(json.loads(out)["items"])) == (0, 1000), errors
    assert await queue.requeue_dead("default") == 1000
    await settled(queue)
    assert (await run("dead", "purge", "default", "--yes"))[:2] == (0, "1000 dead letters deleted\n")


@pytest.mark.parametrize("blob", [b"", b"\0\0\0", struct.pack(">d", float("nan")), struct.pack(">d", float("-inf"))])
async def test_figures_stand_while_a_bad_payload_is_at_the_head(queue: TaskQueue, blob: bytes) -> None:
    await push(queue, "bad", blob)
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.oldest_age_seconds) == (1, 0)


async def test_damaged_dead_letters_are_listed_and_purged(queue: TaskQueue) -> None:
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    garbage = [
        b"",
        b"\xc1",
        msgpack.packb([1, 2, 3]),
        msgpack.packb({"a": 1}),
        msgpack.packb([b"dead", 1, 1, 1e300, b"", b""]),
    ]
    for n, letter in enumerate(garbage):
        await redis.zadd(names.dead, {f"bad{n}": n})
        await redis.hset(names.letter, f"bad{n}", letter)
    letters = await queue.dead_letters("default")
    assert [(letter.id, letter.reason) for letter in letters] == [(f"bad{n}", "unreadable") for n in range(5)]
    assert await queue.purge_dead("default") == 5
    assert await queue.dead_letters("default") == []


TEN_MILLION_MAPS = b"\xdd\x00\x98\x96\x80" + b"\x80" * 10_000_000


@pytest.mark.parametrize("options", [{}, {"signing_keys": [b"s" * 32]}], ids=["plain", "signed"])
@pytest.mark.parametrize("head", [b"\x95\x02", b"\x94\x01\xa4work", b"\x92\x03"], ids=["sealed", "task", "newer"])
async def test_a_payload_beyond_the_limit_is_a_dead_letter_and_never_unpacked(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any], head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue(**options)
    done: list[int] = []
    work = define(queue, done)

    def unpack(*_: object) -> None:
        pytest.fail("it is too long to be unpacked")

    await push(queue, "bad", stamp() + head + TEN_MILLION_MAPS)
    with monkeypatch.context() as patched:
        patched.setattr(envelope, "decode", unpack)
        worker = await run_worker(queue)
        await settled(queue)
    (letter,) = await queue.dead_letters("default")
    assert (letter.id, letter.state, letter.reason) == ("bad", "dead", "too_large")
    assert "more than max_payload_bytes=1048576 of this worker; raise that where workers are started" in letter.error
    assert await queue.handle("bad").status() == "dead"
    assert await (await work.enqueue(5)).result(timeout=60) == 5
    assert worker.health.alive


async def test_a_worker_with_a_larger_limit_takes_a_larger_payload(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    small, large = make_queue(), make_queue(max_payload_bytes=4_000_000)

    async def size(data: bytes) -> int:
        return len(data)

    small.task(max_retries=0)(size)
    handle = await large.task(max_retries=0)(size).enqueue(bytes(3_000_000))
    worker = await run_worker(small)
    await settled(small)
    assert await handle.status() == "dead"
    worker.drain()
    await run_worker(large)
    await large.requeue_dead("default", [handle.id])
    assert await handle.result(timeout=60) == 3_000_000


async def test_ten_megabytes_in_place_of_a_result_are_an_error_for_the_reader(queue: TaskQueue) -> None:
    key = queue.broker.keys_of("default").result("odd")
    await queue.queue_stats("default")
    await queue.broker.client.redis.sadd(queue.broker.fleet.queues, "default")
    for record in (TEN_MILLION_MAPS, b"\x92\xa9succeeded" + TEN_MILLION_MAPS, b"\x91" * 100_000):
        await queue.broker.client.redis.set(key, record)
        with pytest.raises(SerializationError, match="task odd"):
            await queue.handle("odd").result(timeout=60)


# Versions N and N+1.


async def raw_meta(queue: TaskQueue, task_id: str) -> list[int]:
    names = queue.broker.keys_of("default")
    found = await queue.broker.client.redis.hget(names.meta, task_id)
    return [int(part) for part in found.split(b":")] if found else []


async def test_a_task_of_a_newer_version_waits_for_a_newer_worker(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(queues=[{"name": "default", "max_deliveries": 2}])
    done: list[int] = []
    work = define(queue, done)
    for n in range(20):
        await push(queue, f"new{n}", stamp() + msgpack.packb([3, {"task": "work", "n": 1000 + n}]))
    with caplog.at_level(logging.WARNING, "taskfleet.worker"):
        old = await run_worker(queue)
        # More deliveries than max_deliveries and the retries together: neither attempts nor crashes are counted.
        await until(lambda: old.rejections.counts["default", "newer_version"] >= 80, "four rounds")
        assert await (await work.enqueue(1)).result(timeout=60) == 1
    (logged,) = (message for message in caplog.messages if "envelope version" in message)
    assert logged.startswith("queue default holds tasks of envelope version 3, and this worker knows up to 2: they go")
    assert await queue.dead_letters("default") == []
    attempt, deliveries, crashes, _ = await raw_meta(queue, "new0")
    assert (attempt, crashes) == (1, 0)
    assert deliveries >= 3
    text = exposition(WorkerCollector.of(old))[0].decode()
    assert 'taskfleet_unreadable_payloads_total{queue="default",reason="newer_version"}' in text
    assert 'taskfleet_newer_version_wait_seconds{queue="default"}' in text
    # A newer worker starts while the old one still runs.
    decode = envelope.decode

    def newer_decode(blob: bytes) -> envelope.Envelope:
        parts = msgpack.unpackb(blob[8:])
        if parts[0] == 3:
            return envelope.Envelope(parts[1]["task"], [parts[1]["n"]], {}, {}, 0.0)
        return decode(blob)

    new = await run_worker(make_queue_like(queue, done, make_queue))
    monkeypatch.setattr(new.execution, "_plain", False)
    monkeypatch.setattr(new.execution, "_seal", _Opener(newer_decode))
    await until(lambda: len(done) == 21, "the newer worker has run them all", seconds=60)
    assert sorted(done) == [1, *range(1000, 1020)]
    await settled(queue)
    assert await queue.dead_letters("default") == []


class _Opener:
    """The decoder of version N+1."""

    writes = requires = False

    def __init__(self, decode: Any) -> None:
        self._decode = decode

    def open_task(self, queue: str, task_id: str, blob: bytes) -> envelope.Envelope:
        found: envelope.Envelope = self._decode(blob)
        return found


def make_queue_like(queue: TaskQueue, done: list[int], make_queue: MakeQueue) -> TaskQueue:
    other = make_queue(queues=queue.application.queue_options)
    define(other, done)
    return other


async def test_one_that_has_waited_long_is_not_asked_for_often(queue: TaskQueue, run_worker: RunWorker) -> None:
    define(queue, [])
    await push(queue, "new", stamp(age=1000) + msgpack.packb([3]))
    before = time.time()
    worker = await run_worker(queue)
    await until(lambda: worker.rejections.counts["default", "newer_version"], "it was seen")
    stats = await until(lambda: _delayed(queue), "it is delayed")
    after = time.time()
    assert (stats.ready, stats.in_flight, stats.dead) == (0, 0, 0)
    names = queue.broker.keys_of("default")
    due = await queue.broker.client.redis.zscore(names.delayed, "new")
    assert before + 22 < due / 1000 < after + 31
    assert 999 < worker.rejections.waiting_seconds()["default"] < 1100
    assert await queue.handle("new").status() == "delayed"
    assert await queue.handle("new").cancel()


@pytest.mark.parametrize("options", [{}, {"signing_keys": [b"s" * 32]}], ids=["plain", "signed"])
async def test_one_that_is_cancelled_while_a_worker_has_it_does_not_go_back(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    define(queue, [])
    await queue.broker.client.redis.hset(queue.broker.keys_of("default").cancel, "new", 1)
    await push(queue, "new", stamp() + msgpack.packb([3]))
    await run_worker(queue)
    with pytest.raises(TaskCancelledError):
        await queue.handle("new").result(timeout=60)


async def _delayed(queue: TaskQueue) -> Any:
    stats = await queue.queue_stats("default")
    return stats if stats.delayed else None


async def test_a_result_of_a_newer_version_is_told_apart(queue: TaskQueue, run_worker: RunWorker) -> None:
    work = define(queue, [])
    await run_worker(queue)
    handle = await work.enqueue(1)
    assert await handle.result(timeout=60) == 1
    key = queue.broker.keys_of("default").result(handle.id)
    await queue.broker.client.redis.set(key, msgpack.packb([3, {"state": "succeeded"}]))
    with pytest.raises(NewerVersionError, match="the result has envelope version 3"):
        await handle.result(timeout=60)
    await asyncio.sleep(0)


async def test_a_word_on_how_many_results_there_are_is_not_taken_for_them(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    work = define(queue, [])
    names = queue.broker.keys_of("default")
    said = b"999999999 of 999999999 in pages"
    await queue.broker.client.redis.hset(names.input, "odd", bytes([0xA0 + len(said)]) + said)
    await push(queue, "odd", stamp() + envelope.encode("work", [], {}, {"i": 1}))
    await run_worker(queue)
    await settled(queue)
    (letter,) = await queue.dead_letters("default")
    assert (letter.id, letter.reason) == ("odd", "bad_arguments")
    assert await (await work.enqueue(5)).result(timeout=60) == 5
