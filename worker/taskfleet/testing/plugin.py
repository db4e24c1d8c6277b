"""The pytest plugin: fixtures for tests of applications. It comes with Taskfleet; `-p no:taskfleet` disables it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from taskfleet.queue import TaskQueue
from taskfleet.tasks import origin
from taskfleet.testing import InlineWorker, InMemoryBroker, in_memory


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


@pytest.fixture
def taskfleet_broker() -> InMemoryBroker:
    """An empty `InMemoryBroker`."""
    return InMemoryBroker()


@pytest.fixture
def taskfleet_queue(taskfleet_broker: InMemoryBroker) -> TaskQueue:
    """A `TaskQueue` on `taskfleet_broker`, without tasks."""
    return TaskQueue(broker=taskfleet_broker)


@pytest.fixture
def taskfleet_worker(taskfleet_queue: TaskQueue) -> InlineWorker:
    """An `InlineWorker` for `taskfleet_queue`."""
    return InlineWorker(taskfleet_queue)


@pytest.fixture
def taskfleet_in_memory() -> Iterator[Callable[[TaskQueue], InlineWorker]]:
    """`worker = taskfleet_in_memory(app.queue)`: the application's queue is in memory until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda queue: stack.enter_context(in_memory(queue))
