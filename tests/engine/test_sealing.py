"""Signed, encrypted and compressed tasks in a real Redis, and the attacks that access to it permits."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

import msgpack
import pytest

from taskfleet import (
    BadSignatureError,
    BulkEnqueueError,
    DeadLetter,
    PayloadTooLargeError,
    Schedule,
    SerializationError,
    TaskCancelledError,
    TaskExecutionError,
    TaskHandle,
    TaskQueue,
    chain,
    chord,
)
from taskfleet.protocol import envelope, result_record
from taskfleet.scheduling.scheduler import Scheduler
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.ticks import overdue, schedule

SIGNED: dict[str, Any] = {"signing_keys": [b"s" * 32]}
ENCRYPTED: dict[str, Any] = {"encryption_keys": [base64.b64encode(b"e" * 32).decode()]}
COMPRESSED: dict[str, Any] = {"compression": "zstd", "compression_threshold_bytes": 0}
ALL = {
    "signed": SIGNED,
    "encrypted": ENCRYPTED,
    "compressed": COMPRESSED,
    "signed and compressed": SIGNED | COMPRESSED,
    "encrypted and compressed": ENCRYPTED | COMPRESSED,
    "signing and encryption keys": SIGNED | ENCRYPTED,
}


def define(queue: TaskQueue, ran: list[str] | None = None) -> Any:
    @queue.task(max_retries=0)
    async def work(what: str) -> str:
        if ran is not None:
            ran.append(what)
        if what == "fail":
            raise ValueError("a secret reason")
        if what == "wait":
            await asyncio.sleep(60)
        return what * 2

    return work


async def the_dead_letter(queue: TaskQueue, name: str = "default") -> DeadLetter:
    (letter,) = await until(lambda: queue.dead_letters(name), "there is a dead letter")
    return letter


async def settled(queue: TaskQueue, name: str = "default") -> None:
    async def empty() -> bool:
        stats = await queue.queue_stats(name)
        return not (stats.ready or stats.in_flight or stats.delayed)

    await until(empty, "nothing waits or runs")


async def everything_stored(queue: TaskQueue) -> bytes:
    """All data of this test in Redis, as one byte string."""
    redis, parts = queue.broker.client.redis, []
    async for key in redis.scan_iter(match=f"{queue.broker.prefix}:*"):
        parts.append(await redis.dump(key))
    return b"".join(parts)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
async def test_every_ending_goes_through_the_seal(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    work = define(queue)
    later = await work.options(delay=60).enqueue("never")
    expired = await work.options(expires=0.001).enqueue("too late")
    await asyncio.sleep(0.01)
    await run_worker(queue)
    assert await (await work.enqueue("x" * 500)).result(timeout=25) == "x" * 1000
    assert [
        await handle.result(timeout=25) for handle in await queue.enqueue_many([work.message("a"), work.message("b")])
    ] == ["aa", "bb"]
    assert await later.cancel()
    with pytest.raises(TaskCancelledError):
        await later.result(timeout=25)
    with pytest.raises(TaskExecutionError, match="expired before it ran"):
        await expired.result(timeout=25)
    running = await work.enqueue("wait")
    await until(lambda: _is(running, "running"), "it runs")
    assert await running.cancel()
    with pytest.raises(TaskCancelledError):
        await running.result(timeout=25)
    failed = await work.enqueue("fail")
    with pytest.raises(TaskExecutionError, match="a secret reason"):
        await failed.result(timeout=25)
    letter = await the_dead_letter(queue)
    assert (letter.task, letter.reason, letter.error) == ("work", "exception", "ValueError: a secret reason")
    assert await queue.requeue_dead("default") == 1
    await until(lambda: _is(failed, "failed"), "it ran and failed again")


async def _is(handle: TaskHandle[Any], status: str) -> bool:
    return await handle.status() == status


async def test_nothing_of_an_encrypted_task_stands_in_redis(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(**ENCRYPTED)

    @queue.task(max_retries=0)
    async def payroll(what: str) -> str:
        if what == "SECRET-ARGUMENT":
            return "SECRET-RESULT"
        raise ValueError("SECRET-ERROR")

    waiting = await payroll.options(delay=60).enqueue("SECRET-ARGUMENT")
    await run_worker(queue)
    assert await (await payroll.enqueue("SECRET-ARGUMENT")).result(timeout=25) == "SECRET-RESULT"
    await payroll.enqueue("SECRET-OTHER-ARGUMENT")
    assert (await the_dead_letter(queue)).error == "ValueError: SECRET-ERROR"
    stored = await everything_stored(queue)
    assert waiting.id.encode() in stored
    assert b"SECRET" not in stored
    assert b"payroll" not in stored


# An attacker with write access to Redis.


async def push(queue: TaskQueue, task_id: str, blob: bytes, name: str = "default") -> None:
    """Store a payload directly in Redis, as an attacker would."""
    redis, names = queue.broker.client.redis, queue.broker.keys_of(name)
    await redis.sadd(queue.broker.fleet.queues, name)
    await redis.hset(names.task, task_id, blob)
    await redis.rpush(names.ready, task_id)
    await redis.rpush(names.wake, 1)


def stamp() -> bytes:
    return envelope.struct.pack(">d", time.time() * 1000)


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
@pytest.mark.parametrize("forger", [{}, {"signing_keys": [b"x" * 32]}, {"encryption_keys": [b"x" * 32]}, COMPRESSED])
async def test_an_unsigned_task_never_runs_and_never_loops(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any], forger: dict[str, Any]
) -> None:
    ran: list[str] = []
    queue, other = make_queue(**options), make_queue(**forger)
    work = define(queue, ran)
    forged = await define(other).enqueue("forged " * 20)
    good = await work.enqueue("good")
    worker = await run_worker(queue)
    assert await good.result(timeout=25) == "goodgood"
    letter = await the_dead_letter(queue)
    assert (letter.id, letter.task, letter.state, letter.reason) == (forged.id, "?", "dead", "bad_signature")
    assert letter.deliveries == 1
    # Requeued, it is refused again: it neither loops nor runs.
    await queue.requeue_dead("default")
    letter = await the_dead_letter(queue)
    await settled(queue)
    assert letter.deliveries in (1, 2)
    assert ran == ["good"]
    assert worker.rejections.counts["default", "bad_signature"] == 2
    assert await queue.purge_dead("default") == 1


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_a_genuine_payload_runs_under_no_other_id_and_in_no_other_queue(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    ran: list[str] = []
    queue = make_queue(queues=["default", "admin"], **options)
    work = define(queue, ran)
    handle = await work.options(delay=600).enqueue("transfer")
    blob = await queue.broker.client.redis.hget(queue.broker.keys_of("default").task, handle.id)
    await push(queue, "f" * 17, blob)
    await push(queue, handle.id, blob, "admin")
    await run_worker(queue)
    letter = await the_dead_letter(queue)
    assert (letter.id, letter.reason) == ("f" * 17, "bad_signature")
    assert "belongs elsewhere" in letter.error
    letter = await the_dead_letter(queue, "admin")
    assert (letter.id, letter.reason) == (handle.id, "bad_signature")
    assert ran == []


@pytest.mark.orphans("it writes results as an attacker does")
@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_forged_results_are_refused(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    work = define(queue)
    await run_worker(queue)
    one, two = await work.enqueue("one"), await work.enqueue("two")
    assert (await one.result(timeout=25), await two.result(timeout=25)) == ("oneone", "twotwo")
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    # The result of another task.
    await redis.set(names.result(one.id), await redis.get(names.result(two.id)))
    with pytest.raises(BadSignatureError, match=f"task {one.id}: the result .*belongs elsewhere"):
        await one.result(timeout=25)
    with pytest.raises(BadSignatureError):
        await one.status()
    # A result without a seal.
    await redis.set(names.result(two.id), result_record.pack_success(envelope.pack("forged")))
    with pytest.raises(BadSignatureError, match="the result is not signed"):
        await two.result(timeout=25)


@pytest.mark.orphans("it writes results as an attacker does")
async def test_a_garbage_result_is_a_typed_error(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    work = define(queue)
    await run_worker(queue)
    handle = await work.enqueue("one")
    await handle.result(timeout=25)
    redis, key = queue.broker.client.redis, queue.broker.keys_of("default").result(handle.id)
    for garbage in (
        b"\xc1",
        b"",
        b"\x92\xa9succeeded",
        b"\x91" * 5000,
        b"\x92\xa9succeeded\xa2\xff\xfe",
        b"\x92\x02\x01",
    ):
        await redis.set(key, garbage)
        with pytest.raises(SerializationError, match=f"task {handle.id}: "):
            await handle.result(timeout=25)


# Keys and steps.


@pytest.mark.parametrize("option", ["signing_keys", "encryption_keys"])
async def test_tasks_and_results_survive_a_rotation(make_queue: MakeQueue, run_worker: RunWorker, option: str) -> None:
    old, new = b"o" * 32, b"n" * 32
    ran: list[str] = []
    before, during = make_queue(**{option: [old]}), make_queue(**{option: [new, old]})
    after = make_queue(**{option: [new]})
    of_before = await define(before).enqueue("before")
    work_during = define(during, ran)
    worker = await run_worker(during)
    assert await during.handle(of_before.id).result(timeout=25) == "beforebefore"
    # The new key sealed its result. A reader with only the old key refuses the result and does not misread it.
    with pytest.raises(BadSignatureError, match="is not among"):
        await of_before.result(timeout=25)
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    of_during = await work_during.enqueue("during")
    define(after, ran)
    await run_worker(after)
    assert await of_during.result(timeout=25) == "duringduring"
    late = await define(before).enqueue("late")
    letter = await the_dead_letter(after)
    assert (letter.id, letter.reason) == (late.id, "bad_signature")
    # The task is not lost: it would run with its key.
    assert ran == ["before", "during"]


async def test_a_worker_without_keys_runs_signed_or_compressed_tasks(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    plain = make_queue()
    define(plain)
    await run_worker(plain)
    for options in (SIGNED, COMPRESSED, SIGNED | COMPRESSED):
        sender = make_queue(**options, sealing="write")
        assert await (await define(sender).enqueue("x" * 300)).result(timeout=25) == "x" * 600


# Limits.


async def test_limits_hold_for_stored_sizes(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    limits: dict[str, Any] = {"max_payload_bytes": 1000, "max_result_bytes": 1000}
    plain, compressing = make_queue(**limits), make_queue(**limits, compression="zstd")
    work = define(plain)
    with pytest.raises(PayloadTooLargeError, match=r"task 'work': 1\d\d\d bytes are more than max_payload_bytes=1000"):
        await work.enqueue("x" * 1000)
    with pytest.raises(BulkEnqueueError) as caught:
        await plain.enqueue_many([work.message("ok"), work.message("x" * 1000)])
    assert [(index, type(error)) for index, error in caught.value.errors] == [(1, PayloadTooLargeError)]
    await run_worker(plain)
    with pytest.raises(
        TaskExecutionError, match=r"task 'work': its result has 1\d\d\d bytes, more than max_result_bytes=1000"
    ):
        await (await work.enqueue("x" * 600)).result(timeout=25)
    sent = await define(compressing).enqueue("x" * 2000)
    redis, names = plain.broker.client.redis, plain.broker.keys_of("default")
    with pytest.raises(TaskExecutionError, match="its result has"):  # the worker of this test does not compress
        await sent.result(timeout=25)
    assert len(await plain.dead_letters("default")) == 2
    await plain.purge_dead("default")
    # A payload that every reader would refuse is not sent.
    with pytest.raises(PayloadTooLargeError):
        await define(compressing).enqueue("x" * 16_001)
    assert await redis.hlen(names.task) == 0


async def test_a_signature_counts_for_the_limit(make_queue: MakeQueue) -> None:
    work = define(make_queue(**SIGNED, max_payload_bytes=100))
    size = len(envelope.encode("work", ["x" * 60], {}, {}))
    assert size < 100
    with pytest.raises(PayloadTooLargeError, match=r"1\d\d bytes are more than max_payload_bytes=100"):
        await work.enqueue("x" * 60)


async def test_compressed_results_are_within_the_limit_when_stored(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(compression="zstd", max_payload_bytes=1000, max_result_bytes=1000)
    work = define(queue)
    await run_worker(queue)
    assert await (await work.enqueue("x" * 5000)).result(timeout=25) == "x" * 10_000


async def test_a_bomb_is_a_dead_letter(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    from taskfleet.protocol import compression

    queue = make_queue(max_payload_bytes=10_000, max_result_bytes=10_000)
    define(queue)
    bomb = compression.compress(envelope.encode("work", ["x" * 50_000_000], {}, {}))
    await push(queue, "bomb", stamp() + envelope.pack([2, 1, b"", b"", bomb]))
    await run_worker(queue)
    letter = await the_dead_letter(queue)
    assert letter.reason == "undecodable"
    assert "at most 160000 are taken" in letter.error


# Workflows, unique keys, partitions: records that Redis passes on.


def define_steps(queue: TaskQueue) -> tuple[Any, Any, Any]:
    @queue.task(max_retries=0)
    async def add(a: int, b: int) -> int:
        return a + b

    @queue.task(max_retries=0, queue="sums")
    async def total(numbers: list[int]) -> int:
        return sum(numbers)

    @queue.task(max_retries=0)
    async def fail(n: int) -> int:
        raise ValueError("SECRET-REASON")

    return add, total, fail


WORKFLOW_QUEUES = [{"name": "default", "partitions": 3}, "sums"]


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
async def test_results_are_passed_on_through_the_seal(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(queues=WORKFLOW_QUEUES, **options)
    add, total, _ = define_steps(queue)
    await run_worker(queue)
    handle = await queue.enqueue(chord([chain(add.message(n, 1), add.message(10)) for n in range(5)], total.message()))
    assert await handle.result(timeout=25) == sum(n + 11 for n in range(5))
    first = await add.enqueue(1, 1)
    assert await (await add.options(after=[first]).enqueue(2, 2)).result(timeout=25) == 4


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_a_failure_is_explained_to_all_that_come_after(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(queues=WORKFLOW_QUEUES, **options)
    add, total, fail = define_steps(queue)
    seen: list[Any] = []
    args_of_scripts = queue.broker.client.run

    async def run(script: Any, keys: Any, args: Any) -> Any:
        seen.append(args)
        return await args_of_scripts(script, keys, args)

    await run_worker(queue)
    queue.broker.client.run = run  # type: ignore[method-assign]
    handle = await queue.enqueue(chain(fail.message(1), add.message(1), total.message()))
    with pytest.raises(TaskCancelledError, match="SECRET-REASON"):
        await handle.result(timeout=25)
    (letter,) = await queue.dead_letters("default")
    assert letter.error == "ValueError: SECRET-REASON"
    assert len(seen) > 3
    # Not even on the way from one queue to the next.
    assert ("SECRET" in repr(seen)) == (options == SIGNED)
    assert (b"SECRET" in await everything_stored(queue)) == (options == SIGNED)


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_the_result_of_another_task_is_not_passed_on(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    add, _, _ = define_steps(queue)
    worker = await run_worker(queue)
    genuine = await add.enqueue(1_000_000, 0)
    assert await genuine.result(timeout=25) == 1_000_000
    record = await redis.get(names.result(genuine.id))
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    handle = await queue.enqueue(chain(add.message(1, 1), add.message(1)))
    # The first task counts as done, and the second becomes ready with the result of another task.
    unsigned = result_record.pack_success(envelope.pack(1_000_000))
    for forged, reason in (
        ([record], "bad_signature"),
        ([unsigned], "bad_signature"),
        ([], "bad_signature"),
        (None, "bad_arguments"),
    ):
        if await redis.lrange(names.ready, 0, -1) != [handle.id.encode()]:
            await redis.delete(names.ready)
            await redis.rpush(names.ready, handle.id)
        await redis.hdel(names.input, handle.id)
        if forged is not None:
            await redis.hset(names.input, handle.id, msgpack.packb(forged, use_bin_type=False))
        worker = await run_worker(queue)
        letter = await the_dead_letter(queue)
        assert (letter.id, letter.task, letter.reason) == (handle.id, "add", reason)
        worker.drain()
        await until(lambda worker=worker: worker.health.stopped, "the worker has ended")  # type: ignore[misc]
        await queue.requeue_dead("default")


async def test_a_result_that_only_a_newer_worker_can_read_sends_its_taker_back(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue()
    add, _, _ = define_steps(queue)
    names = queue.broker.keys_of("default")
    handle = await add.options(delay=600).enqueue(1, 1)
    await queue.broker.client.redis.hset(names.input, handle.id, msgpack.packb([msgpack.packb([3, {}])]))
    await queue.broker.client.redis.zadd(names.delayed, {handle.id: 0})
    worker = await run_worker(queue)
    await until(lambda: worker.rejections.counts["default", "newer_version"] >= 2, "it went back, and came again")
    assert await queue.dead_letters("default") == []
    assert await handle.cancel()


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_who_waits_for_a_replaced_task_learns_that_it_was(make_queue: MakeQueue, options: dict[str, Any]) -> None:
    queue = make_queue(**options)
    add, _, _ = define_steps(queue)
    unique = add.options(unique_key="one", unique_mode="replace", delay=600)
    first, second = await unique.enqueue(1, 1), await unique.enqueue(2, 2)
    with pytest.raises(TaskCancelledError, match="replaced by a newer task"):
        await first.result(timeout=25)
    assert await second.status() == "delayed"


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
async def test_workflows_outlive_the_steps_to_sealing(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    # The workers of each step get tasks that the step before has sent.
    steps = [("read", "write"), ("write", "require"), ("write", "read")]
    for sender_policy, worker_policy in steps:
        if worker_policy == "require" and "signing_keys" not in options and "encryption_keys" not in options:
            continue  # without keys there is nothing to require
        sender, there = make_queue(**options, sealing=sender_policy), make_queue(**options, sealing=worker_policy)
        add, total, _ = define_steps(sender)
        define_steps(there)
        handle = await sender.enqueue(chord([add.message(1, 1), add.message(2, 2)], total.message()))
        worker = await run_worker(there)
        assert await handle.result(timeout=25) == 6
        worker.drain()
        await until(lambda worker=worker: worker.health.stopped, "the worker has ended")  # type: ignore[misc]


# Schedules: a scheduler signs the tasks that it makes from the records in Redis.


async def ticked(queue: TaskQueue, scheduler: Scheduler) -> Schedule:
    await overdue(queue, "s", 86_400_000)
    await scheduler.one_pass()
    return await schedule(queue, "s")


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
async def test_tasks_that_a_schedule_adds_are_sealed(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    work = define(queue)
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    await queue.add_schedule(
        name="s", schedule="0 0 * * *", task=work, args=["SECRET" * 20], concurrency_policy="Replace"
    )
    first = await ticked(queue, scheduler)
    assert first.last_task_id is not None
    second = await ticked(queue, scheduler)
    assert second.last_task_id is not None
    if "encryption_keys" in options:
        assert b"SECRET" not in await everything_stored(queue)
    with pytest.raises(TaskCancelledError, match="replaced by the next tick"):
        await queue.handle(first.last_task_id).result(timeout=25)
    await run_worker(queue)
    assert await queue.handle(second.last_task_id).result(timeout=25) == "SECRET" * 40
    await scheduler._broker.close()


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_an_unsigned_schedule_does_not_tick(
    make_queue: MakeQueue, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    queue, forger = make_queue(**options), make_queue()
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    await forger.add_schedule(name="s", schedule="0 0 * * *", task=define(forger), args=["forged"])
    assert (await ticked(queue, scheduler)).fired_total == 0
    assert "schedule 's' of queue 'default' does not tick here: its task is not signed" in caplog.text
    # A copy of a genuine schedule under another name does not tick either.
    await queue.add_schedule(name="genuine", schedule="0 0 * * *", task=define(queue), args=["genuine"])
    await redis.hset(names.schedules.specs, "s", await redis.hget(names.schedules.specs, "genuine"))
    assert (await ticked(queue, scheduler)).fired_total == 0
    assert "belongs elsewhere" in caplog.text
    assert (await queue.queue_stats("default")).ready == 0
    await scheduler._broker.close()


# Genuine, signed records in the wrong position. A record must count only as the kind and task that it states.


async def the_end_of(queue: TaskQueue, run_worker: RunWorker, handle: TaskHandle[Any], how: str) -> bytes:
    """The record in Redis of a task that has ended in this way."""
    names = queue.broker.keys_of("default")
    if how == "cancelled":
        assert await handle.cancel()
    elif how == "cancelled while it ran":
        worker = await run_worker(queue)
        await until(lambda: _is(handle, "running"), "it runs")
        assert await handle.cancel()
        await until(lambda: _is(handle, "cancelled"), "it was cancelled")
        worker.drain()
        await until(lambda: worker.health.stopped, "the worker has ended")
    record: bytes = await queue.broker.client.redis.get(names.result(handle.id))
    return record


async def swap_input(queue: TaskQueue, run_worker: RunWorker, task_id: str, records: list[bytes]) -> DeadLetter | None:
    """Run a task that waits for results with these records instead; return its dead letter, if it became one."""
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    await redis.zrem(names.delayed, task_id)
    await redis.delete(names.ready)
    await redis.rpush(names.ready, task_id)
    await redis.rpush(names.wake, 1)
    await redis.hset(names.input, task_id, msgpack.packb(records, use_bin_type=False))
    worker = await run_worker(queue)
    await settled(queue)
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    letters = await queue.dead_letters("default")
    return letters[0] if letters else None


@pytest.mark.parametrize("options", [{}, SIGNED, ENCRYPTED], ids=["plain", "signed", "encrypted"])
@pytest.mark.parametrize("how", ["cancelled", "cancelled while it ran"])
@pytest.mark.parametrize("shape", ["chain", "chord"])
async def test_a_cancellation_does_not_pass_for_the_result_that_it_is_not(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any], how: str, shape: str
) -> None:
    queue = make_queue(**options)
    taken: list[Any] = []

    @queue.task(max_retries=0)
    async def first(n: int):  # type: ignore[no-untyped-def]
        await asyncio.sleep(60)

    @queue.task(max_retries=0)
    async def second(value) -> None:  # type: ignore[no-untyped-def]
        taken.append(value)

    flow = (
        chain(first.message(1), second.message()) if shape == "chain" else chord([first.message(1)], second.message())
    )
    handle = await queue.enqueue(flow)
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    # Save the waiting task, and undo its cancellation below, as an attacker with write access could.
    blob = await redis.hget(names.task, handle.id)
    (head,) = [i.decode() for i in await redis.lrange(names.ready, 0, -1)]
    record = await the_end_of(queue, run_worker, queue.handle(head), how)
    await redis.delete(names.result(handle.id))
    await redis.hset(names.task, handle.id, blob)
    letter = await swap_input(queue, run_worker, handle.id, [record])
    assert taken == []
    assert letter is not None
    assert (letter.id, letter.reason) == (handle.id, "bad_signature" if options else "bad_arguments")
    assert "the record of another end: 'cancelled'" in letter.error


@pytest.mark.orphans("it writes results as an attacker does")
@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_a_record_of_one_kind_passes_for_no_other(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    """A task has three records: the task, its result and its error. None is accepted as another."""
    ran: list[str] = []
    queue = make_queue(**options)
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    work = define(queue, ran)
    handle = await work.options(delay=600).enqueue("x")
    task = (await redis.hget(names.task, handle.id))[envelope.STAMP_BYTES :]
    failed = await work.enqueue("fail")
    await run_worker(queue)
    await the_dead_letter(queue)
    error = msgpack.unpackb(await redis.hget(names.letter, failed.id), raw=True)[5]
    done = await work.enqueue("y")
    assert await done.result(timeout=25) == "yy"
    result = await redis.get(names.result(done.id))
    await queue.add_schedule(name="s", schedule="@daily", task=work, args=["scheduled"])
    spec = msgpack.unpackb(await redis.hget(names.schedules.specs, "s"), raw=True)
    for kind, of, record in (
        ("result", handle.id, task),
        ("result", failed.id, error),
        ("result", "s", spec[4]),
        ("error", done.id, result),
        ("task", done.id, result),
        ("task", "s", spec[4]),
        ("schedule", handle.id, task),
    ):
        with pytest.raises(BadSignatureError):
            queue.application.seal.open(kind, "default", of, record)  # type: ignore[arg-type]
    # Through Redis: the error of a failed task, and the task itself, in place of a result.
    for of, record in ((failed.id, error), (done.id, task)):
        await redis.set(names.result(of), record)
        await redis.hdel(names.letter, of)
        with pytest.raises(BadSignatureError):
            await queue.handle(of).result(timeout=25)
    # A result, and a schedule's call, in place of a task.
    for task_id, record in ((done.id, result), ("s", spec[4])):
        await push(queue, task_id, stamp() + record)
    assert await handle.cancel()
    await settled(queue)
    assert ran == ["fail", "y"]


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_no_byte_of_a_task_can_be_changed(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    ran: list[str] = []
    queue = make_queue(**options)
    work = define(queue, ran)
    handle = await work.options(delay=600, timeout=5, expires=600, max_retries=1).enqueue("x")
    blob = await queue.broker.client.redis.hget(queue.broker.keys_of("default").task, handle.id)
    for at in range(envelope.STAMP_BYTES, len(blob)):
        changed = bytearray(blob)
        changed[at] ^= 1
        with pytest.raises(SerializationError):
            queue.application.seal.open_task("default", handle.id, bytes(changed))
    assert await handle.cancel()


@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_an_expired_task_cannot_be_replayed(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    ran: list[str] = []
    queue = make_queue(**options)
    work = define(queue, ran)
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    once = await work.options(delay=600).enqueue("replayed")
    brief = await work.options(delay=600, expires=0.05).enqueue("brief")
    blobs = {handle.id: await redis.hget(names.task, handle.id) for handle in (once, brief)}
    for handle in (once, brief):
        assert await handle.cancel()
    await run_worker(queue)
    await asyncio.sleep(0.06)  # until it has expired
    for task_id, blob in blobs.items():
        await redis.delete(names.result(task_id))
        await push(queue, task_id, blob)
    await settled(queue)
    # As docs/how-to/security.md says: a genuine task runs again, also a cancelled one, but not an expired one.
    assert ran == ["replayed"]
    assert await brief.status() == "expired"


@pytest.mark.orphans("it writes results as an attacker does")
@pytest.mark.parametrize("options", [SIGNED, ENCRYPTED], ids=["signed", "encrypted"])
async def test_an_earlier_end_of_the_same_task_can_be_given_out_again(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any]
) -> None:
    """As docs/how-to/security.md says. The result of one task is never accepted as that of another."""
    queue = make_queue(**options)
    times: list[int] = []

    @queue.task(max_retries=0)
    async def count() -> int:
        times.append(1)
        return len(times)

    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    handle = await count.options(delay=600).enqueue()
    blob = await redis.hget(names.task, handle.id)
    await run_worker(queue)
    await redis.zadd(names.delayed, {handle.id: 0})
    await redis.rpush(names.wake, 1)
    assert await handle.result(timeout=25) == 1
    record = await redis.get(names.result(handle.id))
    await redis.delete(names.result(handle.id))
    await push(queue, handle.id, blob)
    assert await handle.result(timeout=25) == 2
    await redis.set(names.result(handle.id), record)
    assert await handle.result(timeout=25) == 1


@pytest.mark.parametrize("option", ["signing_keys", "encryption_keys"])
async def test_a_schedule_that_was_removed_can_be_put_back_until_its_key_is_gone(
    make_queue: MakeQueue, option: str
) -> None:
    """As docs/how-to/security.md says: only Redis remembers a removal, so write access can undo it."""
    old, new = b"o" * 32, b"n" * 32
    queue, after = make_queue(**{option: [old]}), make_queue(**{option: [new]})
    work = define(queue)
    define(after)
    redis, names = queue.broker.client.redis, queue.broker.keys_of("default")
    kept: dict[str, bytes] = {}
    for version in ("first", "second"):
        await queue.add_schedule(name="s", schedule="0 0 * * *", task=work, args=[version])
        kept[version] = await redis.hget(names.schedules.specs, "s")
    assert await queue.remove_schedule("s")

    async def put_back(version: str) -> None:
        await redis.hset(names.schedules.specs, "s", kept[version])
        await redis.zadd(names.schedules.ticks, {"s": 20_000 * 86_400_000})

    for version in kept:
        await put_back(version)
        scheduler = Scheduler(queue.application, queue.sessions.new_broker())
        assert (await ticked(queue, scheduler)).fired_total == 1
        await scheduler._broker.close()
        assert await queue.remove_schedule("s")
    await put_back("second")
    scheduler = Scheduler(after.application, after.sessions.new_broker())
    assert (await ticked(after, scheduler)).fired_total == 0
    await scheduler._broker.close()
