"""Any number of event loops and threads use one `TaskQueue`, inside a worker too."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from taskfleet import TaskHandle, TaskQueue, current_task, group
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue, RunWorker, until

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=["redis", "memory"])
def queues_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return f"memory://test-{os.urandom(4).hex()}"
    return str(request.getfixturevalue("redis_url"))


@pytest.fixture(autouse=True)
def every_socket_is_closed() -> Iterator[None]:
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []


def in_loop(work: Coroutine[Any, Any, Any], factory: Callable[[], Any] = asyncio.new_event_loop) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def sockets() -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found += descriptor.readlink().name.startswith("socket:")
        except OSError:
            continue
    return found


@pytest.mark.parametrize("factory", LOOPS)
def test_a_loop_for_each_call_leaves_no_socket(make_queue: MakeQueue, factory: Any) -> None:
    queue = make_queue()

    @queue.task
    async def note(n: int) -> None: ...

    async def call(n: int) -> str:
        handle = await note.enqueue(n)
        await queue.enqueue_many([note.message(n)])
        await queue.health_check()
        return await handle.status()

    before = sockets()
    assert {in_loop(call(n), factory) for n in range(25)} == {"ready"}
    assert sockets() == before


def test_one_that_waited_for_a_result_leaves_none_either(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.task
    async def note() -> None: ...

    async def wait() -> None:
        handle = await note.enqueue()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await handle.result()

    before = sockets()
    for _ in range(5):
        in_loop(wait())
    assert sockets() == before


@pytest.mark.parametrize("factory", LOOPS)
def test_a_loop_that_is_closed_without_ceremony_loses_its_sockets_with_the_next(
    make_queue: MakeQueue, factory: Any
) -> None:
    queue = make_queue()
    before = sockets()
    with warnings.catch_warnings():
        if factory is uvloop.new_event_loop:  # uvloop warns when it closes the sockets itself
            warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            loop = factory()
            loop.run_until_complete(queue.health_check())
            loop.close()
        in_loop(queue.health_check())
        gc.collect()
    assert sockets() == before


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:coroutine method 'aclose':RuntimeWarning")
def test_loops_that_are_never_closed_are_not_kept_forever(make_queue: MakeQueue) -> None:
    queue = make_queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loops = [asyncio.new_event_loop() for _ in range(12)]
        for loop in loops:
            assert loop.run_until_complete(queue.health_check())
        assert loops[0].run_until_complete(queue.health_check())  # its session was dropped, and it gets a new one
        assert len(list(queue.sessions)) < 12
        for loop in loops:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        gc.collect()


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("last", ["a call", "a subscription", "an introduction"])
@pytest.mark.parametrize("turns", range(8))
def test_a_queue_that_is_dropped_shortly_before_the_end_of_its_loop_leaves_nothing(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, factory: Any, last: str, turns: int
) -> None:
    """Whatever turn of the loop is the last one."""
    url, before = make_queue().url, sockets()

    async def main() -> None:
        queue = TaskQueue(url)
        if last != "an introduction":
            await queue.health_check()
        elif isinstance(broker := queue.sessions.current().broker, RedisBroker):
            broker.introduction.start()  # over the first connection, which it opens
            await asyncio.sleep(0)
            del broker
        if last == "a subscription":
            async with queue.sessions.current().completions.expect(Partition("default"), "a-task"):
                pass  # the subscription stays
        del queue
        gc.collect()
        for _ in range(turns):
            await asyncio.sleep(0.005 if last == "an introduction" else 0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    gc.collect()
    assert sockets() == before
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("last", ["a subscription", "an introduction"])
def test_a_queue_that_is_dropped_while_it_connects_leaves_nothing(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, factory: Any, last: str
) -> None:
    """In whatever turn of the loop."""
    url, before = make_queue().url, sockets()

    async def main(turns: int, *, ends: bool) -> None:
        own, queue = sockets(), TaskQueue(url)
        if last == "a subscription":
            waiting = asyncio.ensure_future(subscribed(queue))
        else:
            waiting = asyncio.ensure_future(asyncio.sleep(0))
            if isinstance(broker := queue.sessions.current().broker, RedisBroker):
                broker.introduction.start()
            del broker
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        del queue, waiting
        gc.collect()
        await asyncio.sleep(0)
        gc.collect()  # the cancelled task had it, too
        if not ends:
            await until(lambda: len(asyncio.all_tasks()) == 1, "what went on for the queue has ended")
            await until(lambda: sockets() == own, "its sockets are closed")

    async def subscribed(queue: TaskQueue) -> None:
        async with queue.sessions.current().completions.expect(Partition("default"), "a-task"):
            await asyncio.Event().wait()

    for turns in range(12):
        for ends in (True, False):
            in_loop(main(turns, ends=ends), factory)
    assert sockets() == before
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


@pytest.mark.parametrize("factory", LOOPS)
def test_a_loop_that_ends_with_calls_under_way_leaves_nothing(
    make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, factory: Any
) -> None:
    """The first call sends its message, and the others gather for the next one."""
    before = sockets()

    async def main(turns: int) -> None:
        queue = make_queue()

        @queue.task
        async def note() -> None: ...

        calls = [asyncio.ensure_future(queue.enqueue(note.message())) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        del calls

    for turns in range(20):
        in_loop(main(turns), factory)
    gc.collect()
    assert sockets() == before
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("factory", LOOPS)
def test_a_broker_that_is_closed_in_each_loop_is_used_in_the_next(redis_url: str, factory: Any) -> None:
    broker = RedisBroker.from_url(redis_url)

    async def use() -> None:
        await broker.ping()
        broker.introduction.start()
        await asyncio.sleep(0.01)
        await broker.close()

    before = sockets()
    for _ in range(2):
        in_loop(use(), factory)
    in_loop(broker.close(), factory)
    assert sockets() == before


def test_an_unreferenced_queue_closes_its_connections(make_queue: MakeQueue) -> None:
    before = sockets()

    async def main() -> None:
        queue = TaskQueue(make_queue().url)
        await queue.health_check()
        del queue
        gc.collect()
        await until(lambda: sockets() == own, "its sockets are closed")

    async def count() -> int:
        return sockets()

    own = in_loop(count())  # the sockets of a loop
    in_loop(main())
    assert sockets() == before


EVERY_CALL: list[Callable[[TaskQueue], Awaitable[Any]]] = [
    lambda queue: queue.health_check(),
    lambda queue: queue.queue_stats("default"),
    lambda queue: queue.get_metrics(),
    lambda queue: queue.dead_letters("other"),
    lambda queue: queue.requeue_dead("other"),
    lambda queue: queue.purge_dead("other"),
    lambda queue: queue.purge("other"),
    lambda queue: queue.pause("other"),
    lambda queue: queue.resume("other"),
    lambda queue: queue.list_schedules(),
    lambda queue: queue.remove_schedule("none"),
    lambda queue: queue.handle("0123456789abcdef1").status(),
    lambda queue: queue.handle("0123456789abcdef1").cancel(),
    lambda queue: queue.handle("0123456789abcdef1").progress(),
]


def test_threads_with_a_loop_each_share_a_queue(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.task
    async def note(n: int) -> None: ...

    async def calls() -> int:
        handles = [await note.enqueue(n) for n in range(10)]
        for call in EVERY_CALL:
            await call(queue)
        assert [await handle.status() for handle in handles] == ["ready"] * 10
        return len(await queue.enqueue_many([note.message(n) for n in range(10)]))

    def repeatedly(n: int) -> int:
        return sum(in_loop(calls(), LOOPS[n % 2]) for _ in range(5))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(repeatedly, range(8))) == [50] * 8

    async def stats() -> int:
        return (await queue.queue_stats("default")).ready

    assert in_loop(stats()) == 800


def test_a_handle_can_be_used_in_any_loop(make_queue: MakeQueue) -> None:
    queue = make_queue()

    @queue.task
    async def double(n: int) -> int:
        return 2 * n

    async def send() -> Any:
        return await double.enqueue(4), await queue.enqueue(group(double.message(1), double.message(2)))

    one, both = in_loop(send())

    async def work() -> None:
        await queue.start_workers(1)
        assert await one.result(timeout=60) == 8
        await queue.stop_workers()

    in_loop(work())
    assert in_loop(one.result(timeout=60)) == 8
    assert in_loop(both.result(timeout=60)) == [2, 4]
    assert one.result_sync(timeout=60) == 8
    assert both.statuses_sync() == ["succeeded", "succeeded"]

    async def after() -> Any:
        return await double.options(after=[one]).enqueue(5)

    assert in_loop(in_loop(after()).status()) == "ready"


async def test_a_task_uses_the_queue_in_a_loop_of_its_own(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue(slots=64)

    @queue.task
    async def child(n: int) -> int:
        return n

    @queue.task
    def parent(n: int) -> str:
        async def main() -> str:
            async with queue:
                handle = await child.enqueue(n)
            for call in EVERY_CALL:
                await call(queue)
            assert await handle.result(timeout=60) == n
            return handle.id

        return str(asyncio.run(main()))

    @queue.task
    async def steady() -> None:
        for _ in range(20):
            await asyncio.sleep(0.01)

    worker = await run_worker(queue)
    session = queue.sessions.current()
    handles: list[TaskHandle[Any]] = [await each for n in range(20) for each in (parent.enqueue(n), steady.enqueue())]
    for handle in handles:
        await handle.result(timeout=60)
    assert queue.sessions.current() is session
    assert worker.outage.failures == 0
    assert not worker.draining


async def test_a_task_that_closes_its_queue_closes_nothing_of_the_worker(make_queue: MakeQueue) -> None:
    queue = make_queue(slots=4)

    @queue.task
    async def closes() -> None:
        async with queue:
            await queue.health_check()

    @queue.task
    def closes_in_thread() -> None:
        asyncio.run(closes())

    async with queue:
        await queue.start_workers(1)
        for _ in range(3):
            await (await closes.enqueue()).result(timeout=60)
            await (await closes_in_thread.enqueue()).result(timeout=60)
        assert queue.worker_count == 1
    assert queue.worker_count == 0


async def test_workers_of_two_loops(make_queue: MakeQueue) -> None:
    queue = make_queue(slots=2)
    ran: set[str] = set()

    @queue.task
    async def note() -> None:
        ran.add(threading.current_thread().name)
        await asyncio.sleep(0.01)

    started, stop = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        await queue.start_workers(1)
        started.set()
        await asyncio.to_thread(stop.wait, 240)
        await queue.stop_workers()

    thread = threading.Thread(target=lambda: in_loop(elsewhere(), uvloop.new_event_loop), name="elsewhere")
    thread.start()
    try:
        assert await asyncio.to_thread(started.wait, 120)
        await queue.start_workers(1)
        assert queue.worker_count == 2
        names = {worker.worker_id for worker in await until(lambda: _all_of(queue, 2), "both are known")}
        assert len(names) == 2

        async def both_ran() -> bool:
            await (await note.enqueue()).result(timeout=60)
            return len(ran) == 2

        await until(both_ran, "both have run one")
        await queue.close()  # the workers of this loop
        assert queue.worker_count == 1
        assert await (await note.enqueue()).result(timeout=60) is None
        await queue.stop_workers()  # the workers of every loop
        assert queue.worker_count == 0
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 120)
    assert queue.worker_count == 0


async def _all_of(queue: TaskQueue, count: int) -> Any:
    known = await queue.broker.workers()
    return known if len(known) == count else None


def test_workers_that_end_with_their_loop_hand_back_their_tasks(make_queue: MakeQueue) -> None:
    queue = make_queue(slots=2)

    seconds = 600.0  # of the tasks, for as long as the first worker is there

    @queue.task(max_retries=0)
    async def nap() -> int:
        await asyncio.sleep(seconds)
        return current_task().attempt

    async def leaves_early() -> list[TaskHandle[int]]:
        handles = [await nap.enqueue() for _ in range(4)]
        await queue.start_workers(1)
        await until(lambda: _running(queue), "two run")
        return handles

    async def stays(handles: list[TaskHandle[int]]) -> list[int]:
        stats = await queue.queue_stats("default")
        assert (stats.ready, stats.in_flight, stats.failed_total) == (4, 0, 0)
        nonlocal seconds
        seconds = 0.0
        await queue.start_workers(1)
        results = [await handle.result(timeout=60) for handle in handles]
        await queue.stop_workers()
        return results

    before = sockets()
    assert in_loop(stays(in_loop(leaves_early()))) == [1] * 4
    assert sockets() == before


async def _running(queue: TaskQueue) -> bool:
    return (await queue.queue_stats("default")).in_flight == 2


async def test_closing_a_queue_closes_the_connections_of_other_loops_too(make_queue: MakeQueue) -> None:
    queue = make_queue()
    used, stop = threading.Event(), threading.Event()
    alive: list[int] = []

    async def elsewhere() -> None:
        await queue.health_check()
        used.set()
        await asyncio.to_thread(stop.wait, 240)
        await queue.health_check()  # it opens new connections
        alive.append(1)

    thread = threading.Thread(target=lambda: in_loop(elsewhere()))
    thread.start()
    try:
        assert await asyncio.to_thread(used.wait, 120)
        await queue.close()
        assert [session.broker.descriptors() for session in queue.sessions] == [[], []]
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 120)
    assert alive == [1]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_a_forked_child_has_sockets_of_its_own(make_queue: MakeQueue, queues_url: str) -> None:
    if queues_url.startswith("memory:"):
        pytest.skip("a child has a memory of its own")
    queue = make_queue(slots=2)

    @queue.task
    async def child(n: int) -> int:
        return n

    @queue.task
    def forks() -> list[str]:
        fork = multiprocessing.get_context("fork")
        receiver, sender = fork.Pipe(False)

        def main() -> None:
            async def call() -> str:
                return (await child.enqueue(7)).id

            sender.send([asyncio.run(call()), child.enqueue_sync(8).id])

        process = fork.Process(target=main)
        process.start()
        assert receiver.poll(60)
        ids: list[str] = receiver.recv()
        process.join(20)  # the exit code is Python's: it tries to join the thread that it was forked from
        return ids

    async with queue:
        await queue.start_workers(1)
        for _ in range(3):
            ids = await (await forks.enqueue()).result(timeout=60)
            assert [await queue.handle(each).result(timeout=60) for each in ids] == [7, 8]
        assert await queue.health_check()


async def test_a_process_that_forks_beside_its_loop(make_queue: MakeQueue, queues_url: str) -> None:
    if queues_url.startswith("memory:"):
        pytest.skip("a child has a memory of its own")
    queue = make_queue()
    await queue.health_check()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.write(write, b"%d" % len(list(queue.sessions)))
            os.write(write, b"%d" % asyncio.new_event_loop().run_until_complete(queue.health_check()))
        finally:
            os._exit(0)
    os.close(write)
    assert await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.read(read, 10) == b"01"
    os.close(read)
    assert await queue.health_check()
