"""The pytest plugin: fixtures for tests of applications. It comes with Taskfleet; `-p no:taskfleet` disables it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from taskfleet.errors import TaskQueueError
from taskfleet.queue import TaskQueue
from taskfleet.tasks import origin
from taskfleet.testing import InlineWorker, InMemoryBroker, eager, in_memory, in_redis

_EMBEDDED = "embedded"
_MOST_SHOWN = 10

_workers = pytest.StashKey[list[InlineWorker]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("taskfleet").addoption(
        "--taskfleet-redis",
        nargs="?",
        const=_EMBEDDED,
        metavar="URL",
        help="keep the queues of taskfleet_queue and taskfleet_isolated in a real Redis: redis://…, or 'embedded' for "
        "a Valkey of this run (the default without a value; needs taskfleet[dev-server])",
    )


def pytest_configure(config: pytest.Config) -> None:
    chosen = _chosen(config)
    if chosen is not None and chosen != _EMBEDDED and "://" not in chosen:
        raise pytest.UsageError(
            f"--taskfleet-redis {chosen}: this is no address; write --taskfleet-redis=embedded {chosen}, or "
            "--taskfleet-redis=redis://localhost:6379/0"
        )


def pytest_report_header(config: pytest.Config) -> str | None:
    chosen = _chosen(config)
    return None if chosen is None else f"taskfleet: queues in Redis ({chosen.rpartition('@')[2]})"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """A task that a test defines may be defined again by a later test."""
    origin.enter_test(object())


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    origin.enter_test(None)


@pytest.hookimpl(hookwrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    """A task that a fixture of several tests defines may not be defined again by one of them."""
    if fixturedef.scope == "function":
        yield
        return
    test = origin.enter_test(None)
    yield
    origin.enter_test(test)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The report of a failed test shows the tasks that have failed in it, with their tracebacks, and what is left."""
    report = yield
    if call.when == "call" and report.failed:
        for worker in item.stash.get(_workers, []):
            with contextlib.suppress(TaskQueueError):  # the Redis that is gone is the failure of the test itself
                report.sections += _sections_of(worker)
    return report


def _sections_of(worker: InlineWorker) -> list[tuple[str, str]]:
    sections: list[tuple[str, str]] = []
    if failures := worker.failures():
        texts = [f"{failure}\n{failure.traceback}".rstrip() for failure in failures[-_MOST_SHOWN:]]
        sections.append((f"taskfleet: failed tasks ({len(failures)})", "\n\n".join(texts)))
    if waiting := worker.waiting():
        sections.append(("taskfleet: tasks that have not ended", "\n".join(waiting[:_MOST_SHOWN])))
    return sections


def _chosen(config: pytest.Config) -> str | None:
    chosen: str | None = config.getoption("--taskfleet-redis", default=None)
    return chosen


def _skip(problem: str) -> NoReturn:
    pytest.skip(f"--taskfleet-redis: {problem}")


@pytest.fixture(scope="session")
def taskfleet_redis_url(pytestconfig: pytest.Config) -> Iterator[str | None]:
    """The Redis of `--taskfleet-redis`; `None` without it."""
    chosen = _chosen(pytestconfig)
    if chosen != _EMBEDDED:
        yield chosen
        return
    from taskfleet.embedded_valkey import EmbeddedValkey

    with tempfile.TemporaryDirectory(prefix="taskfleet-") as folder:  # short, since a socket's path is limited
        try:
            server = EmbeddedValkey(Path(folder), port=None, instead="give --taskfleet-redis=redis://…").__enter__()
        except TaskQueueError as error:
            pytest.fail(str(error), pytrace=False)
        try:
            yield server.url
        finally:
            server.__exit__()


@pytest.fixture
def taskfleet_broker(taskfleet_redis_url: str | None) -> InMemoryBroker:
    """An empty `InMemoryBroker`."""
    if taskfleet_redis_url is not None:
        _skip("the fixture taskfleet_broker is the broker in memory")
    return InMemoryBroker()


@pytest.fixture
def taskfleet_queue(request: pytest.FixtureRequest, taskfleet_redis_url: str | None) -> TaskQueue:
    """A `TaskQueue` without tasks, on `taskfleet_broker`; with `--taskfleet-redis`, in that Redis."""
    if taskfleet_redis_url is None:
        return TaskQueue(broker=request.getfixturevalue("taskfleet_broker"))
    return TaskQueue(taskfleet_redis_url)


@pytest.fixture
def taskfleet_worker(
    taskfleet_queue: TaskQueue, taskfleet_isolated: Callable[[TaskQueue], InlineWorker], request: pytest.FixtureRequest
) -> InlineWorker:
    """An `InlineWorker` for `taskfleet_queue`."""
    if isinstance(taskfleet_queue.broker, InMemoryBroker):
        worker = InlineWorker(taskfleet_queue)
        request.node.stash.setdefault(_workers, []).append(worker)
        return worker
    return taskfleet_isolated(taskfleet_queue)


@pytest.fixture
def taskfleet_isolated(
    request: pytest.FixtureRequest, taskfleet_redis_url: str | None
) -> Iterator[Callable[[TaskQueue], InlineWorker]]:
    """`worker = taskfleet_isolated(app.queue)`: the application's queue has its tasks apart until the test ends.

    They are in memory; with `--taskfleet-redis`, in that Redis under a key prefix of the test.
    """
    workers: list[InlineWorker] = request.node.stash.setdefault(_workers, [])
    with contextlib.ExitStack() as stack:

        def isolate(queue: TaskQueue) -> InlineWorker:
            if taskfleet_redis_url is None:
                kept = in_memory(queue)
            else:
                kept = in_redis(queue, taskfleet_redis_url, unable=_skip)
            try:
                worker = stack.enter_context(kept)
            except TaskQueueError as error:
                pytest.fail(str(error), pytrace=False)
            workers.append(worker)
            return worker

        yield isolate


@pytest.fixture
def taskfleet_in_memory(request: pytest.FixtureRequest) -> Iterator[Callable[[TaskQueue], InlineWorker]]:
    """`worker = taskfleet_in_memory(app.queue)`: as `taskfleet_isolated`, and in memory in any case."""
    workers: list[InlineWorker] = request.node.stash.setdefault(_workers, [])
    with contextlib.ExitStack() as stack:

        def keep(queue: TaskQueue) -> InlineWorker:
            worker = stack.enter_context(in_memory(queue))
            workers.append(worker)
            return worker

        yield keep


@pytest.fixture
def taskfleet_eager(request: pytest.FixtureRequest) -> Iterator[Callable[..., InlineWorker]]:
    """`worker = taskfleet_eager(app.queue)`: tasks run as they are enqueued, in memory; arguments as for `eager`."""
    workers: list[InlineWorker] = request.node.stash.setdefault(_workers, [])
    with contextlib.ExitStack() as stack:

        def run_at_once(queue: TaskQueue, **options: Any) -> InlineWorker:
            worker = stack.enter_context(eager(queue, **options))
            workers.append(worker)
            return worker

        yield run_at_once
