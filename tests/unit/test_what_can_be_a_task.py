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


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (_numbers, "_numbers is a generator"),
        (_plain_numbers, "_plain_numbers is a generator"),
        (functools.partial(_work, 1), "partial is no function"),
        (_Callable(), "_Callable is no function"),
        (_Plain, "_Plain is a class"),
        (functools.partial(_numbers), "partial is no function"),
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
