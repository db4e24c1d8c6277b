from __future__ import annotations

import pytest

from taskfleet import ConfigurationError, Task, TaskNotFoundError, TaskQueue


def test_two_tasks_of_one_name_are_an_error_that_names_both_locations() -> None:
    queue = TaskQueue()

    @queue.task(name="same")
    async def first() -> None: ...

    with pytest.raises(ConfigurationError) as caught:

        @queue.task(name="same")
        async def second() -> None: ...

    assert str(caught.value).count("test_tasks.py:") == 2


def test_class_tasks_have_snake_case_names() -> None:
    class SendHTMLReport2Go(Task):
        async def execute(self) -> None: ...

    assert SendHTMLReport2Go.name == "send_html_report2_go"
    with pytest.raises(ConfigurationError, match="two tasks are named 'send_html_report2_go'"):

        class Other(Task):
            name = "send_html_report2_go"

            async def execute(self) -> None: ...


def test_options_are_checked_where_they_are_given() -> None:
    queue = TaskQueue()
    for options, problem in (({"max_retries": -1}, "max_retries"), ({"timeout": 0}, "timeout")):
        with pytest.raises(ConfigurationError, match=problem):
            queue.task(**options)(lambda: None)  # type: ignore[call-overload]

    @queue.task
    async def task() -> None: ...

    with pytest.raises(ConfigurationError, match="delay"):
        task.options(delay=-1)
    with pytest.raises(ConfigurationError, match="async"):

        @queue.task(executor="thread")
        async def other() -> None: ...


def test_the_error_for_an_unknown_task_lists_the_known_ones() -> None:
    queue = TaskQueue()

    @queue.task
    async def known() -> None: ...

    with pytest.raises(TaskNotFoundError, match="no task is named 'nope'; known: known"):
        queue.registry.get("nope")


def test_the_error_for_a_misspelt_option_lists_the_known_ones() -> None:
    queue = TaskQueue("redis://localhost:1")
    with pytest.raises(ConfigurationError, match=r"task option 'max_retry' is not known; .*max_retries"):
        queue.task(max_retry=3)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="task option 'prio' is not known"):
        queue.batch_task(prio=3)  # type: ignore[call-overload]
