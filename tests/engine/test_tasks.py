from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import threading
import uuid
from dataclasses import dataclass

import pydantic
import pytest

from taskfleet import (
    BulkEnqueueError,
    InvalidQueueNameError,
    PayloadTooLargeError,
    QueueFullError,
    QueueOptions,
    SerializationError,
    Task,
    TaskCancelledError,
    TaskExecutionError,
    TaskNotFoundError,
    TaskQueue,
    TaskTimeoutError,
    current_task,
)
from tests.engine.conftest import MakeQueue, RunWorker, until


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


class Order(pydantic.BaseModel):
    id: uuid.UUID
    price: decimal.Decimal
    raw: bytes = b""


class ProcessData(Task):
    data: str

    async def execute(self) -> dict[str, str]:
        return {"data": self.data, "task": current_task().name}


class Renamed(Task):
    name = "something-else"
    count: int

    async def execute(self) -> int:
        return self.count + 1


async def test_a_task_runs_and_its_result_comes_back(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def add(a: int, b: int = 1) -> int:
        return a + b

    assert await add(1) == 2  # a plain call is a plain call
    handle = await add.enqueue(2, b=3)
    assert await handle.status() == "ready"
    await run_worker(queue)
    assert await handle.result(timeout=10) == 5
    assert await handle.status() == "succeeded"
    assert await handle.result(timeout=1) == 5


async def test_values_arrive_as_the_annotated_types(queue: TaskQueue, run_worker: RunWorker) -> None:
    seen: list[object] = []

    @queue.task
    async def record(
        when: dt.datetime, key: uuid.UUID, price: decimal.Decimal, colour: Colour, point: Point, order: Order,
        raw: bytes, several: list[Point], maybe: int | None, span: dt.timedelta, *rest: int, **named: Colour,
    ) -> tuple[dt.date, Point]:  # fmt: skip
        seen[:] = [when, key, price, colour, point, order, raw, several, maybe, span, rest, named]
        return when.date(), point

    arguments = (
        dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.UTC), uuid.uuid4(), decimal.Decimal("1.10"), Colour.RED, Point(1, 2.5),
        Order(id=uuid.uuid4(), price=decimal.Decimal("3.50"), raw=b"text"), b"\xff\x00", [Point(3, 4.0)], None,
        dt.timedelta(seconds=1.5), 7, 8,
    )  # fmt: skip
    await run_worker(queue)
    handle = await record.enqueue(*arguments, extra=Colour.RED)
    assert await handle.result(timeout=10) == (dt.date(2026, 1, 2), Point(1, 2.5))
    assert seen == [*arguments[:10], (7, 8), {"extra": Colour.RED}]


async def test_class_tasks_are_named_and_run(queue: TaskQueue, run_worker: RunWorker) -> None:
    await run_worker(queue, queues=["high_priority", "default"])
    first = await queue.enqueue(ProcessData(data="x"), "high_priority")
    second = await queue.schedule(Renamed(count=1), "default", delay=dt.timedelta(milliseconds=50))
    assert await first.result(timeout=10) == {"data": "x", "task": "process_data"}
    assert await second.result(timeout=10) == 2
    assert Renamed.name == "something-else"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("x", 1), "parameter 'count'"),
        ((1,), "missing a required argument: 'thing'"),
        ((1, object()), "parameter 'thing': type object cannot be encoded"),
        ((1, 1, 1), "too many positional arguments"),
        ((2**70, 1), "parameter 'count'"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_and_named(
    queue: TaskQueue, arguments: tuple[object, ...], problem: str
) -> None:
    @queue.task
    async def task(count: int, thing: object) -> None: ...

    with pytest.raises(SerializationError, match=problem) as caught:
        await task.enqueue(*arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert (await queue.queue_stats("default")).ready == 0


async def test_a_bad_queue_name_is_refused(queue: TaskQueue) -> None:
    with pytest.raises(InvalidQueueNameError, match="'two words'"):

        @queue.task(queue="two words")
        async def task() -> None: ...

    @queue.task
    async def good() -> None: ...

    with pytest.raises(InvalidQueueNameError):
        good.options(queue="")
    for name in ("info", "sync:config", "a.b-c_d", "x" * 255):
        QueueOptions(name)


async def test_bulk_enqueue_keeps_order(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @queue.task
    async def note(n: int) -> None:
        ran.append(n)

    handles = await queue.enqueue_many([note.message(n) for n in range(2500)])
    assert len({handle.id for handle in handles}) == 2500
    assert (await queue.queue_stats("default")).ready == 2500
    await run_worker(queue, concurrency=1)
    await until(lambda: len(ran) == 2500, "all have run")
    assert ran == list(range(2500))


async def test_bulk_enqueue_reports_each_bad_message_and_sends_nothing_of_their_queue(queue: TaskQueue) -> None:
    @queue.task
    async def default(n: int) -> None: ...

    @queue.task(queue="other")
    async def other(n: int) -> None: ...

    messages = [default.message(1), default.message("x"), other.message(2), default.message(b"y")]  # type: ignore[arg-type]
    with pytest.raises(BulkEnqueueError) as caught:
        await queue.enqueue_many(messages)
    assert [index for index, _ in caught.value.errors] == [1, 3]
    assert (await queue.queue_stats("default")).ready == 0
    assert (await queue.queue_stats("other")).ready == 1


async def test_concurrent_enqueues_share_calls(queue: TaskQueue) -> None:
    @queue.task
    async def task(n: int) -> None: ...

    await task.enqueue(0)
    redis = await queue.broker.client.redis_of(queue.broker.keys_of("default").wake)
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    handles = await asyncio.gather(*(task.enqueue(n) for n in range(500)))
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert len({handle.id for handle in handles}) == 500
    assert (await queue.queue_stats("default")).ready == 501
    assert after - before <= 5


async def test_a_full_queue_refuses_and_says_so(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "small", "max_length": 2}])

    @queue.task(queue="small")
    async def task() -> None: ...

    outcomes = await asyncio.gather(*(task.enqueue() for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, QueueFullError) for outcome in outcomes) == 3
    with pytest.raises(QueueFullError, match="'small' is full: 2 of at most 2"):
        await task.enqueue()
    assert (await queue.queue_stats("small")).ready == 2


async def test_a_payload_over_the_limit_is_refused(make_queue: MakeQueue) -> None:
    queue = make_queue(max_payload_bytes=1000)

    @queue.task
    async def task(data: bytes) -> None: ...

    with pytest.raises(PayloadTooLargeError, match="max_payload_bytes=1000"):
        await task.enqueue(b"x" * 1000)


async def test_a_result_that_cannot_be_recorded_is_an_error_on_the_task(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(max_result_bytes=100)

    @queue.task
    async def large() -> str:
        return "x" * 200

    @queue.task
    async def wrong() -> int:
        return "not a number"  # type: ignore[return-value]

    @queue.task
    async def odd():  # type: ignore[no-untyped-def]
        return object()

    await run_worker(queue)
    for task, problem in ((large, "max_result_bytes=100"), (wrong, "result"), (odd, "cannot be encoded")):
        with pytest.raises(TaskExecutionError, match=problem):
            await (await task.enqueue()).result(timeout=10)  # type: ignore[attr-defined]


async def test_a_delayed_task_is_never_early_and_hardly_late(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def when() -> float:
        return asyncio.get_running_loop().time()

    await run_worker(queue)
    loop = asyncio.get_running_loop()
    began = loop.time()
    handle = await when.options(delay=0.3).enqueue()
    assert await handle.status() == "delayed"
    assert 0.299 <= await handle.result(timeout=10) - began <= 0.45
    eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.2)
    later = await when.options(eta=eta).enqueue()
    await later.result(timeout=10)
    assert dt.datetime.now(dt.UTC) >= eta


async def test_an_expired_task_does_not_run(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran = False

    @queue.task
    async def task() -> None:
        nonlocal ran
        ran = True

    handle = await task.options(expires=0.01).enqueue()
    await asyncio.sleep(0.05)
    await run_worker(queue)
    with pytest.raises(TaskExecutionError, match="expired"):
        await handle.result(timeout=10)
    assert await handle.status() == "expired"
    assert not ran


async def test_waiting_tasks_can_be_cancelled_once(queue: TaskQueue, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @queue.task
    async def task(name: str) -> None:
        ran.append(name)

    ready = await task.enqueue("ready")
    delayed = await task.options(delay=60).enqueue("delayed")
    other = await task.enqueue("other")
    for handle in (ready, delayed):
        assert await handle.cancel() is True
        assert await handle.cancel() is False
        assert await handle.status() == "cancelled"
        with pytest.raises(TaskCancelledError):
            await handle.result(timeout=1)
    assert (await queue.queue_stats("default")).ready == 1
    await run_worker(queue)
    await other.result(timeout=10)
    assert ran == ["other"]
    assert await queue.handle("never-was").cancel() is False
    with pytest.raises(TaskNotFoundError):
        await queue.handle("never-was").result(timeout=1)


async def test_a_running_task_can_be_cancelled_and_never_retries(queue: TaskQueue, run_worker: RunWorker) -> None:
    attempts = 0

    @queue.task(max_retries=5)
    async def endless() -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("the cancellation is drowned by another error")

    await run_worker(queue)
    handle = await endless.enqueue()
    await until(lambda: attempts, "it runs")
    assert await handle.status() == "running"
    assert await handle.cancel() is True
    with pytest.raises(TaskCancelledError):
        await handle.result(timeout=10)
    assert attempts == 1


async def test_a_handle_from_an_id_finds_its_queue(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(queue="other")
    async def answer() -> int:
        return 42

    task_id = (await answer.enqueue()).id
    await run_worker(queue)
    await until(lambda: _is(queue, task_id, "succeeded"), "it has run")
    assert await queue.handle(task_id).result(timeout=5) == 42
    assert await queue.handle("nothing").status() == "unknown"


async def _is(queue: TaskQueue, task_id: str, status: str) -> bool:
    return await queue.handle(task_id).status() == status


async def test_waiting_for_a_result_ends_with_a_timeout(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    handle = await task.enqueue()
    with pytest.raises(TaskTimeoutError, match=r"no result after 0\.05 s") as caught:
        await handle.result(timeout=0.05)
    assert caught.value.task_id == handle.id
    assert caught.value.timeout_seconds == 0.05


async def test_plain_functions_run_in_threads(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    def where() -> tuple[str, str]:
        return threading.current_thread().name, current_task().name

    await run_worker(queue)
    thread, name = await (await where.enqueue()).result(timeout=10)
    assert thread.startswith("taskfleet-task")
    assert name == "where"


async def test_the_context_knows_the_attempt(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task(timeout=30)
    async def about() -> tuple[str, int, bool, bool]:
        context = current_task()
        assert context.deadline is not None
        left = context.deadline - dt.datetime.now(dt.UTC)
        age = dt.datetime.now(dt.UTC) - context.enqueued_at
        return context.id, context.attempt, 29 < left.total_seconds() <= 30.1, -0.1 < age.total_seconds() < 5

    await run_worker(queue)
    handle = await about.enqueue()
    assert await handle.result(timeout=10) == (handle.id, 1, True, True)
    with pytest.raises(RuntimeError, match="inside a task"):
        current_task()


async def test_pause_stops_claims_and_resume_goes_on(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> int:
        return 1

    await queue.pause("default")
    await run_worker(queue)
    handle = await task.enqueue()
    stats = await queue.queue_stats("default")
    assert stats.paused
    with pytest.raises(TaskTimeoutError):
        await handle.result(timeout=0.2)
    await queue.resume("default")
    assert await handle.result(timeout=10) == 1


async def test_purge_drops_what_waits(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> None: ...

    await queue.enqueue_many([task.message() for _ in range(1500)])
    await task.options(delay=60).enqueue()
    assert await queue.purge("default") == 1501
    stats = await queue.queue_stats("default")
    assert (stats.ready, stats.delayed) == (0, 0)


async def test_after_a_drain_only_what_was_asked_for_is_kept(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(result_ttl=0)

    @queue.task(max_retries=1)
    async def task(n: int) -> None:
        if n % 7 == 0 and current_task().attempt == 1:
            raise ValueError

    await queue.enqueue_many([task.message(n) for n in range(300)])
    worker = await run_worker(queue)
    await until(lambda: _finished(queue, 300), "all have ended")
    worker.drain()
    await until(lambda: worker.stopped, "the worker has ended")
    redis, prefix = queue.broker.client.redis, queue.broker.prefix
    left = sorted([key.decode().removeprefix(prefix) async for key in redis.scan_iter(match=f"{prefix}:*")])
    with_ttl = [key for key in left if await redis.pttl(prefix + key) > 0]
    assert set(left) - set(with_ttl) <= {":queues", ":{default}:stat"}


async def _finished(queue: TaskQueue, count: int) -> bool:
    stats = await queue.queue_stats("default")
    return stats.finished_total == count and stats.in_flight == 0


async def test_higher_tiers_come_first(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(queues=[{"name": "low", "priority": 0}, {"name": "high", "priority": 10}])
    order: list[str] = []

    @queue.task
    async def task(name: str) -> None:
        order.append(name)

    for _ in range(20):
        await task.options(queue="low").enqueue("low")
    for _ in range(20):
        await task.options(queue="high").enqueue("high")
    await run_worker(queue, concurrency=1, queues=["low", "high"])
    await until(lambda: len(order) == 40, "all have run")
    # The very first claim may come before the worker knows of the other queue.
    assert order[:20].count("high") >= 19


async def test_weights_share_a_tier(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    order: list[str] = []

    @queue.task
    async def task(name: str) -> None:
        order.append(name)

    for name in ("a", "b"):
        await queue.enqueue_many([task.options(queue=name).message(name) for _ in range(400)])
    await run_worker(queue, concurrency=8, queues=["a:3", "b:1"])
    await until(lambda: len(order) == 800, "all have run")
    assert 0.65 <= order[:400].count("a") / 400 <= 0.85


async def test_workers_in_this_process(queue: TaskQueue) -> None:
    @queue.task
    async def task() -> int:
        return 1

    await queue.start_workers(2)
    assert queue.worker_count == 2
    assert await (await task.enqueue()).result(timeout=10) == 1
    await queue.stop_workers()
    assert queue.worker_count == 0
    await queue.start_workers()
    assert queue.worker_count == 1  # workers.initial_count
    assert await queue.health_check()


async def test_a_rate_limit_holds_over_all_workers(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(
        queues=[{"name": "default", "rate_limit": {"tasks_per_second": 100, "burst": 10}}], result_ttl=60
    )
    ran: list[float] = []

    @queue.task
    async def task() -> None:
        ran.append(asyncio.get_running_loop().time())

    await queue.enqueue_many([task.message() for _ in range(110)])
    for _ in range(2):
        await run_worker(queue, concurrency=50)
    await until(lambda: len(ran) == 110, "all have run")
    assert 0.9 <= ran[-1] - ran[0] <= 2.0
    for start in ran:
        assert sum(start <= other < start + 0.5 for other in ran) <= 65


async def test_a_task_that_succeeds_in_spite_of_its_cancellation_leaves_no_mark(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    @queue.task(result_ttl=0)
    async def deaf() -> None:
        started.set()
        await asyncio.shield(release.wait())

    worker = await run_worker(queue)
    handle = await deaf.enqueue()
    await started.wait()
    # The mark without its announcement: the worker hears of it at its next renewal, which comes too late.
    await queue.broker.client.redis.hset(queue.broker.keys_of("default").all[11], handle.id, 1)
    release.set()
    await until(lambda: not worker.held, "it has ended")
    assert await queue.broker.client.redis.hlen(queue.broker.keys_of("default").all[11]) == 0
    assert (await queue.queue_stats("default")).finished_total == 1
