"""A function that cannot run as a task is refused where it is defined."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from taskfleet import ConfigurationError, Task, TaskQueue


async def _numbers() -> AsyncIterator[int]:
    yield 1


def _plain_numbers() -> Iterator[int]:
    yield 1


async def _work(n: int = 0) -> int:
    return n


class _Callable:
    async def __call__(self) -> None:
        """Nothing."""


class _Plain:
    def work(self) -> None:
        """Nothing."""

    @staticmethod
    async def double(n: int) -> int:
        return 2 * n

    @classmethod
    async def made(cls) -> None:
        """Nothing."""

    async def twice(self, n: int) -> int:
        return 2 * n


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_numbers, "_numbers is a generator"),
        (_plain_numbers, "_plain_numbers is a generator"),
        (functools.partial(_work, 1), "partial is no function"),
        (_Callable(), "_Callable is no function"),
        (_Plain, "_Plain is a class"),
        (functools.partial(_numbers), "partial is no function"),
        (functools.partial(_work, 1), r"write def and call _work\(…\) in it"),
        (_Plain.work, r"_Plain.work is a method, and a worker has no self to call it on; derive the class from"),
        (vars(_Plain)["double"], "double is a static method: write @staticmethod above the decorator of the task"),
        (vars(_Plain)["made"], "a classmethod cannot be a task, since a worker has no object"),
        (property(_work), "a property cannot be a task"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"name": "named"}])
def test_a_function_that_cannot_run_is_no_task(
    function: Callable[..., Any], problem: str, options: dict[str, Any]
) -> None:
    queue = TaskQueue("memory://refused")
    with pytest.raises(ConfigurationError, match=problem):
        queue.task(**options)(function)
    with pytest.raises(ConfigurationError, match=problem):
        queue.batch_task(size=2, window_ms=1, **options)(function)


def test_a_lambda_needs_a_name() -> None:
    queue = TaskQueue("memory://refused")
    with pytest.raises(ConfigurationError, match=r"a lambda has no name: define a function with def, or give @queue"):
        queue.task(lambda: 1)
    assert queue.task(name="one")(lambda: 1).name == "one"


def test_a_method_of_an_object_is_no_task_for_another_process() -> None:
    with pytest.raises(ConfigurationError, match="another process finds the function by module and name"):
        TaskQueue("memory://refused").task(executor="process")(_Plain().work)


async def test_what_can_be_called_without_an_object_is_a_task() -> None:
    queue = TaskQueue("memory://supported")

    class Prices:
        rate = 3

        @staticmethod
        @queue.task
        async def double(n: int) -> int:
            return 2 * n

        async def times(self, n: int) -> int:
            return self.rate * n

    times = queue.task(Prices().times)  # a method of one object, which the worker's process has made, too

    @queue.task
    async def nested(n: int) -> int:
        return n + 1

    later = queue.task(name="later")(lambda n: n + 2)
    async with queue:
        await queue.start_workers(1)
        sent = [await Prices.double.enqueue(1), await times.enqueue(1), await nested.enqueue(1), await later.enqueue(1)]
        assert [await handle.result(timeout=10) for handle in sent] == [2, 3, 2, 3]


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_generator_is_no_task_in_any_executor(executor: Any) -> None:
    with pytest.raises(ConfigurationError, match="is a generator"):
        TaskQueue("memory://refused").task(executor=executor)(_plain_numbers)


def test_the_execute_method_of_a_class_is_no_generator() -> None:
    with pytest.raises(ConfigurationError, match=r"Yields.execute is a generator"):

        class Yields(Task):
            async def execute(self) -> Any:
                yield 1

    with pytest.raises(ConfigurationError, match=r"PlainlyYields.execute is a generator"):

        class PlainlyYields(Task):
            def execute(self) -> Any:  # type: ignore[override]
                yield 1
