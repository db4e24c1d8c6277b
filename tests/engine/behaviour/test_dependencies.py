from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest

from taskfleet import (
    Depends,
    Retry,
    SerializationError,
    Task,
    TaskContext,
    TaskExecutionError,
    TaskQueue,
    TaskTimeoutError,
    chain,
    current_task,
)
from tests.engine.conftest import MakeQueue, RunWorker, until

log: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


class Session:
    def __init__(self, name: str = "real") -> None:
        self.name = name


def plain() -> Session:
    return Session("plain")


async def coroutine() -> Session:
    await asyncio.sleep(0)
    return Session("coroutine")


def generator() -> Iterator[Session]:
    log.append("generator opens")
    try:
        yield Session("generator")
    except BaseException as error:
        log.append(f"generator sees {type(error).__name__}")
        raise
    finally:
        log.append("generator closes")


async def async_generator() -> AsyncIterator[Session]:
    log.append("async generator opens")
    try:
        yield Session("async generator")
    except BaseException as error:
        log.append(f"async generator sees {type(error).__name__}")
        raise
    finally:
        await asyncio.sleep(0)
        log.append("async generator closes")


@contextmanager
def context_manager() -> Iterator[Session]:
    log.append("opens")
    yield Session("context manager")
    log.append("closes")


@asynccontextmanager
async def async_context_manager() -> AsyncIterator[Session]:
    log.append("opens")
    yield Session("async context manager")
    log.append("closes")


class Managed(Session):
    def __init__(self) -> None:
        super().__init__("class")

    async def __aenter__(self) -> Managed:
        log.append("opens")
        return self

    async def __aexit__(self, *_: object) -> None:
        log.append("closes")


class Maker:
    async def __call__(self) -> Session:
        return Session("callable object")


@pytest.mark.parametrize(
    ("provider", "name", "closes"),
    [
        (plain, "plain", False),
        (coroutine, "coroutine", False),
        (generator, "generator", True),
        (async_generator, "async generator", True),
        (context_manager, "context manager", True),
        (async_context_manager, "async context manager", True),
        (Managed, "class", True),
        (Session, "real", False),
        (Maker(), "callable object", False),
    ],
)
@pytest.mark.parametrize("threaded", [False, True])
async def test_every_kind_of_provider_gives_and_closes(
    queue: TaskQueue, run_worker: RunWorker, provider: Any, name: str, closes: bool, threaded: bool
) -> None:
    def in_thread(x: int, db: Session = Depends(provider)) -> str:
        log.append("runs")
        return f"{x} {db.name}"

    async def on_loop(x: int, db: Session = Depends(provider)) -> str:
        return in_thread(x, db)

    task: Any = queue.task(in_thread if threaded else on_loop)
    await run_worker(queue)
    assert await (await task.enqueue(1)).result(timeout=60) == f"1 {name}"
    if closes:
        assert [entry.split()[-1] for entry in log] == ["opens", "runs", "closes"]
    else:
        assert log == ["runs"]


async def test_both_forms_are_no_part_of_the_call(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def marked(x: int, db: Annotated[Session, Depends(plain)], y: int, *, z: int = 3) -> str:
        return f"{x}{y}{z} {db.name}"

    await run_worker(queue)
    assert await (await marked.enqueue(1, 2)).result(timeout=60) == "123 plain"  # type: ignore[call-arg,arg-type]
    assert await (await marked.enqueue(1, y=2, z=4)).result(timeout=60) == "124 plain"  # type: ignore[call-arg]
    with pytest.raises(SerializationError, match="parameter 'db' is injected where it runs; leave it out"):
        await marked.enqueue(1, db=Session(), y=2)
    assert await marked(1, Session("given"), 2) == "123 given"  # a plain call injects nothing


async def test_the_result_before_it_in_a_chain_is_the_first_argument_of_the_call(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def load() -> int:
        return 3

    @queue.task
    async def add(db: Annotated[Session, Depends(plain)], number: int, more: int = 1) -> str:
        return f"{number + more} {db.name}"

    await run_worker(queue)
    handle = await queue.enqueue(chain(load.message(), add.message(more=4)))  # type: ignore[call-arg]
    assert await handle.result(timeout=60) == "7 plain"


async def test_a_plain_call_injects_nothing_and_says_so(queue: TaskQueue) -> None:
    @queue.task
    async def task(x: int, db: Session = Depends(plain)) -> str:
        return db.name

    assert await task(1, db=Session("fake")) == "fake"
    with pytest.raises(TypeError, match=r"task\(\) needs 'db': a plain call injects nothing, so pass it"):
        await task(1)


def settings() -> dict[str, str]:
    log.append("settings")
    return {"name": "nested"}


async def connection(config: Annotated[dict[str, str], Depends(settings)]) -> AsyncIterator[Session]:
    log.append("connection opens")
    yield Session(config["name"])
    log.append("connection closes")


def repository(db: Session = Depends(connection), again: Session = Depends(connection)) -> Iterator[Session]:
    assert db is again
    log.append("repository opens")
    yield db
    log.append("repository closes")


async def test_nested_dependencies_are_made_once_and_closed_in_reverse(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task(
        db: Session = Depends(repository), config: Any = Depends(settings), direct: Session = Depends(connection)
    ) -> str:
        assert db is direct
        assert config["name"] == db.name
        log.append("runs")
        return db.name

    await run_worker(queue)
    assert await (await task.enqueue()).result(timeout=60) == "nested"
    assert log == [
        "settings", "connection opens", "repository opens", "runs", "repository closes", "connection closes",
    ]  # fmt: skip
    await (await task.enqueue()).result(timeout=60)
    assert log.count("settings") == 2  # cached for the run, not for the worker


def who(task: TaskContext) -> str:
    return f"{task.name} {task.attempt}"


async def test_a_provider_may_ask_for_the_context_and_a_task_for_its_own(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    async def on_loop(name: str = Depends(who), me: TaskContext = Depends(current_task)) -> list[str]:
        return [name, me.id]

    @queue.task
    def in_thread(name: str = Depends(who), me: TaskContext = Depends(current_task)) -> list[str]:
        return [name, me.id]

    await run_worker(queue)
    for task in (on_loop, in_thread):
        handle = await task.enqueue()
        assert await handle.result(timeout=60) == [f"{task.name} 1", handle.id]


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("ending", ["failure", "timeout", "cancel", "drain"])
async def test_generators_see_how_the_task_ended(
    queue: TaskQueue, run_worker: RunWorker, threaded: bool, ending: str
) -> None:
    running = threading.Event()

    async def on_loop(a: Session = Depends(async_generator), b: Session = Depends(generator)) -> None:
        running.set()
        if ending == "failure":
            raise ValueError("why")
        await asyncio.sleep(60)

    def in_thread(a: Session = Depends(async_generator), b: Session = Depends(generator)) -> None:
        running.set()
        if ending == "failure":
            raise ValueError("why")
        while True:
            threading.Event().wait(0.01)

    task: Any = queue.task(max_retries=0, timeout=600)(in_thread if threaded else on_loop)
    worker = await run_worker(queue)
    handle = await task.enqueue()
    await until(running.is_set, "it runs")
    if ending == "failure":
        with pytest.raises(TaskExecutionError, match="ValueError: why"):
            await handle.result(timeout=60)
    elif ending == "timeout":
        worker.deadlines.move(601)  # not before it runs, however late that is on a busy machine
        with pytest.raises(TaskTimeoutError):
            await handle.result(timeout=60)
    elif ending == "cancel":
        await handle.cancel()
    else:
        worker.drain()
        worker.end_grace()
    await until(lambda: "async generator closes" in log, "all is closed")
    on_loop_error = "ValueError" if ending == "failure" else "CancelledError"
    in_thread_error = on_loop_error if not threaded or ending == "failure" else "Interrupted"
    assert log == [
        "async generator opens", "generator opens",
        f"generator sees {in_thread_error}", "generator closes",
        f"async generator sees {on_loop_error}", "async generator closes",
    ]  # fmt: skip
    if ending == "drain":
        await until(lambda: worker.health.stopped, "the worker has ended")
        assert await handle.status() == "ready"


def thread_name() -> Iterator[str]:
    log.append(f"opens {threading.get_ident()}")
    yield threading.current_thread().name
    log.append(f"closes {threading.get_ident()}")


async def needs_a_plain_one(name: str = Depends(thread_name)) -> str:
    return name


async def test_a_provider_that_only_a_plain_function_needs_runs_in_its_thread(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    @queue.task
    def task(name: str = Depends(thread_name)) -> int:
        assert name == threading.current_thread().name
        log.append(f"runs {threading.get_ident()}")
        return threading.get_ident()

    @queue.task
    def other(name: str = Depends(needs_a_plain_one), same: str = Depends(thread_name)) -> str:
        assert name == same != threading.current_thread().name
        return name

    await run_worker(queue)
    ident = await (await task.enqueue()).result(timeout=60)
    assert ident != threading.get_ident()
    assert log == [f"opens {ident}", f"runs {ident}", f"closes {ident}"]
    assert await (await other.enqueue()).result(timeout=60) == threading.current_thread().name


class Client:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1


async def client(config: Any = Depends(settings, scope="worker")) -> AsyncIterator[Client]:
    await asyncio.sleep(0.05)  # other tasks request it while it is being made
    yield Client()
    log.append("client closes")


def pool(client: Client = Depends(client, scope="worker")) -> Iterator[Client]:
    yield client
    log.append("pool closes")


async def test_a_worker_makes_its_own_once_and_closes_them_at_the_end(queue: TaskQueue, run_worker: RunWorker) -> None:
    Client.made = 0

    @queue.task
    async def on_loop(client: Client = Depends(pool, scope="worker")) -> int:
        return id(client)

    @queue.task
    def in_thread(client: Client = Depends(client, scope="worker")) -> int:
        return id(client)

    worker = await run_worker(queue, concurrency=8)
    handles = await queue.enqueue_many([task.message() for task in (on_loop, in_thread) for _ in range(20)])
    assert len({await handle.result(timeout=60) for handle in handles}) == 1
    assert (Client.made, log) == (1, ["settings"])
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")
    assert log == ["settings", "pool closes", "client closes"]


async def test_a_worker_dependency_that_fails_is_tried_again_by_the_next_task(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    attempts = 0

    async def unsteady() -> int:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(0)
        if attempts == 1:
            raise ConnectionError("not yet")
        return attempts

    @queue.task(max_retries=1, retry=Retry.fixed(0))
    async def task(n: int = Depends(unsteady, scope="worker")) -> int:
        return n

    await run_worker(queue)
    assert await (await task.enqueue()).result(timeout=60) == 2
    assert attempts == 2


async def test_a_task_that_is_stopped_while_it_waits_takes_nothing_from_the_others(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    release = asyncio.Event()

    async def slow() -> int:
        await release.wait()
        return 1

    @queue.task
    async def task(n: int = Depends(slow, scope="worker")) -> int:
        return n

    await run_worker(queue)
    hurried = await task.options(timeout=0.1, max_retries=0).enqueue()
    patient = await task.enqueue()
    with pytest.raises(TaskTimeoutError):
        await hurried.result(timeout=60)
    release.set()
    assert await patient.result(timeout=60) == 1


async def test_one_that_does_not_get_ready_does_not_keep_the_worker(queue: TaskQueue, run_worker: RunWorker) -> None:
    async def never() -> int:
        await asyncio.sleep(600)
        return 1

    @queue.task(max_retries=0, timeout=0.1)
    async def task(n: int = Depends(never, scope="worker")) -> int:
        return n

    worker = await run_worker(queue)
    with pytest.raises(TaskTimeoutError):
        await (await task.enqueue()).result(timeout=60)
    worker.drain()
    await until(lambda: worker.health.stopped, "the worker has ended")


async def test_a_provider_that_fails_or_swallows_or_fails_to_close_fails_the_task(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    async def fails() -> int:
        raise LookupError("no database")

    async def swallows() -> AsyncIterator[int]:
        try:
            yield 1
        except ValueError:
            log.append("swallowed")

    def fails_to_close() -> Iterator[int]:
        yield 1
        raise OSError("cannot commit")

    @queue.task(max_retries=0)
    async def first(n: int = Depends(fails)) -> None: ...

    @queue.task(max_retries=0)
    async def second(n: int = Depends(swallows)) -> None:
        raise ValueError("still an error")

    @queue.task(max_retries=0)
    async def third(n: int = Depends(fails_to_close)) -> None: ...

    @queue.task(max_retries=0)
    def fourth(n: int = Depends(fails_to_close)) -> None: ...

    await run_worker(queue)
    for task, problem in (
        (first, "LookupError: no database"),
        (second, "ValueError: still an error"),
        (third, "OSError: cannot commit"),
        (fourth, "OSError: cannot commit"),
    ):
        with pytest.raises(TaskExecutionError, match=problem):
            await (await task.enqueue()).result(timeout=60)
    assert log == ["swallowed"]


async def test_overrides_reach_every_depth_and_end_with_their_block(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task(db: Session = Depends(repository)) -> str:
        return db.name

    @queue.task
    async def shared(config: Any = Depends(settings, scope="worker")) -> str:
        return str(config["name"])

    def fake_settings() -> dict[str, str]:
        return {"name": "fake"}

    await run_worker(queue)
    assert await (await shared.enqueue()).result(timeout=60) == "nested"
    with queue.override(settings, fake_settings):
        assert await (await task.enqueue()).result(timeout=60) == "fake"
        assert await (await shared.enqueue()).result(timeout=60) == "fake"
        with queue.override(connection, lambda: Session("inner")):
            assert await (await task.enqueue()).result(timeout=60) == "inner"
        assert await (await task.enqueue()).result(timeout=60) == "fake"
    assert await (await task.enqueue()).result(timeout=60) == "nested"
    assert await (await shared.enqueue()).result(timeout=60) == "nested"


class ReportWithSession(Task):
    number: int

    async def execute(self, db: Session = Depends(plain)) -> str:
        return f"{self.number} {db.name}"


async def test_class_tasks_get_the_dependencies_of_execute(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    await run_worker(queue)
    assert await (await queue.enqueue(ReportWithSession(number=3))).result(timeout=60) == "3 plain"
    with queue.override(plain, lambda: Session("fake")):
        assert await (await queue.enqueue(ReportWithSession(number=4))).result(timeout=60) == "4 fake"
    assert await ReportWithSession(number=5).execute(Session("given")) == "5 given"
