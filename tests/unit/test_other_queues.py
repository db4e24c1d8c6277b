"""Names of other libraries on our tasks: the error says how to write the call here."""

from __future__ import annotations

import re
from typing import Any

import pytest

from taskfleet import Task, TaskQueue
from taskfleet.tasks import other_queues

queue = TaskQueue("memory://other-queues")


@queue.task
async def send_email(to: str) -> str:
    return to


class RefundOrder(Task[int]):
    order: int
    send: bool = False  # a field may have the name of another library's method

    async def execute(self) -> int:
        return self.order


@pytest.mark.parametrize(
    ("name", "library", "instead"),
    [
        ("delay", "Celery", "await send_email.enqueue(…)"),
        ("apply_async", "Celery", "await send_email.options(delay=…, queue=…).enqueue(…)"),
        ("s", "Celery", "send_email.message(…), or send_email.partial(…) behind another task of a workflow"),
        ("send", "dramatiq", "await send_email.enqueue(…)"),
        ("send_with_options", "dramatiq", "await send_email.options(delay=…).enqueue(…)"),
        ("defer", "procrastinate", "await send_email.enqueue(…)"),
        ("configure", "procrastinate", "await send_email.options(delay=…, queue=…).enqueue(…)"),
        ("kiq", "taskiq", "await send_email.enqueue(…)"),
        ("enqueue_job", "arq", "await send_email.enqueue(…)"),
        ("enqueue_in", "RQ", "await send_email.options(delay=…).enqueue(…)"),
        ("enqueue_at", "RQ", "await send_email.options(eta=…).enqueue(…)"),
        ("add", "BullMQ", "await send_email.enqueue(…)"),
        ("perform_async", "Sidekiq", "await send_email.enqueue(…)"),
        ("perform_bulk", "Sidekiq", "await queue.enqueue_many([send_email.message(…), …])"),
    ],
)
def test_the_error_names_our_call(name: str, library: str, instead: str) -> None:
    for task in (send_email, send_email.options(delay=1)):
        with pytest.raises(AttributeError) as caught:
            getattr(task, name)
        said = str(caught.value)
        assert said.startswith(f".{name}() is of {library}; write {instead}")
        assert "\n" not in said
        assert caught.value.name == name
        assert not hasattr(task, name)
        assert name not in dir(task)
        assert "enqueue" in dir(task)


@pytest.mark.parametrize(
    ("name", "library", "instead"),
    [
        ("enqueue_job", "arq", "await task.enqueue(…)"),
        ("enqueue_in", "RQ", "await task.options(delay=…).enqueue(…)"),
        ("enqueue_at", "RQ", "await task.options(eta=…).enqueue(…)"),
        ("send_task", "Celery", "await task.enqueue(…)"),
        ("apply_async", "Celery", "await task.options(delay=…, queue=…).enqueue(…)"),
        ("add_periodic_task", "Celery", "await queue.add_schedule(name=…, schedule=…, task=…)"),
        ("add", "BullMQ", "await task.enqueue(…)"),
        ("addBulk", "BullMQ", "await queue.enqueue_many([task.message(…), …])"),
        ("perform_async", "Sidekiq", "await task.enqueue(…)"),
    ],
)
def test_a_queue_names_our_call_too(name: str, library: str, instead: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(queue, name)
    assert str(caught.value).startswith(f".{name}() is of {library}; write {instead}")
    assert not hasattr(queue, name)
    assert name not in dir(queue)
    assert "enqueue_many" in dir(queue)


def test_the_calls_that_are_named_exist() -> None:
    for name, (_, instead) in {**other_queues._CALLS, **other_queues._QUEUE_CALLS}.items():
        for called in re.findall(r"(?:\{0?\}|task|queue)\.(\w+)\(", instead):
            assert hasattr(send_email, called) or hasattr(queue, called), f"{name}: {instead}"


def test_code_without_an_event_loop_is_told_its_call() -> None:
    task: Any = send_email
    with pytest.raises(AttributeError, match=r"without an event loop, send_email\.enqueue_sync\(…\)$"):
        task.delay("a@b.c")


def test_any_other_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'enqeue'"):
        getattr(send_email, "enqeue")  # noqa: B009
    assert send_email.__name__ == "send_email"


@pytest.mark.parametrize("name", ["delay", "apply_async", "defer", "enqueue", "enqueue_sync", "partial"])
def test_a_class_task_is_sent_by_its_queue(name: str) -> None:
    task = RefundOrder(order=1)
    with pytest.raises(AttributeError, match=r"write await queue\.enqueue\(RefundOrder\(…\)\)"):
        getattr(task, name)
    assert task.send is False
    with pytest.raises(AttributeError, match="has no attribute 'odrer'"):
        getattr(task, "odrer")  # noqa: B009
