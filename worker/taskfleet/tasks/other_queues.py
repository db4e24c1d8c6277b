"""The names by which other libraries send a task, for errors that say how to write the call here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

_CALLS = {
    "delay": ("Celery", "await {}.enqueue(…)"),
    "apply_async": ("Celery", "await {}.options(delay=…, queue=…).enqueue(…)"),
    "apply": ("Celery", "await {}(…), which runs it here"),
    "s": ("Celery", "{0}.message(…), or {0}.partial(…) behind another task of a workflow"),
    "si": ("Celery", "{}.message(…)"),
    "signature": ("Celery", "{0}.message(…), or {0}.partial(…) behind another task of a workflow"),
    "map": ("Celery", "await queue.enqueue_many([{}.message(…), …])"),
    "starmap": ("Celery", "await queue.enqueue_many([{}.message(…), …])"),
    "send": ("dramatiq", "await {}.enqueue(…)"),
    "send_with_options": ("dramatiq", "await {}.options(delay=…).enqueue(…)"),
    "message_with_options": ("dramatiq", "{}.options(delay=…).message(…)"),
    "defer": ("procrastinate", "await {}.enqueue(…)"),
    "defer_async": ("procrastinate", "await {}.enqueue(…)"),
    "batch_defer": ("procrastinate", "await queue.enqueue_many([{}.message(…), …])"),
    "configure": ("procrastinate", "await {}.options(delay=…, queue=…).enqueue(…)"),
    "kiq": ("taskiq", "await {}.enqueue(…)"),
    "kicker": ("taskiq", "await {}.options(delay=…, queue=…).enqueue(…)"),
    "schedule": ("huey", "await {}.options(delay=…).enqueue(…)"),
    "enqueue_job": ("arq", "await {}.enqueue(…)"),
    "enqueue_call": ("RQ", "await {}.enqueue(…)"),
    "enqueue_in": ("RQ", "await {}.options(delay=…).enqueue(…)"),
    "enqueue_at": ("RQ", "await {}.options(eta=…).enqueue(…)"),
    "add": ("BullMQ", "await {}.enqueue(…)"),
    "perform_async": ("Sidekiq", "await {}.enqueue(…)"),
    "perform_in": ("Sidekiq", "await {}.options(delay=…).enqueue(…)"),
    "perform_at": ("Sidekiq", "await {}.options(eta=…).enqueue(…)"),
    "perform_bulk": ("Sidekiq", "await queue.enqueue_many([{}.message(…), …])"),
}
_ONE, _LATER, _AT = (
    "await task.enqueue(…)",
    "await task.options(delay=…).enqueue(…)",
    "await task.options(eta=…).enqueue(…)",
)
_MANY = "await queue.enqueue_many([task.message(…), …])"
_QUEUE_CALLS = {
    "enqueue_job": ("arq", _ONE),
    "enqueue_call": ("RQ", _ONE),
    "enqueue_in": ("RQ", _LATER),
    "enqueue_at": ("RQ", _AT),
    "send_task": ("Celery", _ONE),
    "add_periodic_task": ("Celery", "await queue.add_schedule(name=…, schedule=…, task=…)"),
    "delay": ("Celery", _ONE),
    "apply_async": ("Celery", "await task.options(delay=…, queue=…).enqueue(…)"),
    "defer_async": ("procrastinate", _ONE),
    "perform_async": ("Sidekiq", _ONE),
    "perform_in": ("Sidekiq", _LATER),
    "perform_at": ("Sidekiq", _AT),
    "push": ("Sidekiq", _ONE),
    "push_bulk": ("Sidekiq", _MANY),
    "add": ("BullMQ", _ONE),
    "add_bulk": ("BullMQ", _MANY),
    "addBulk": ("BullMQ", _MANY),
    "add_job": ("APScheduler", "await queue.add_schedule(name=…, schedule=…, task=…)"),
}
_OF_FUNCTIONS = frozenset({"enqueue", "enqueue_sync", "partial"})


class Elsewhere:
    """An attribute that is not there: the error says how to write the call here.

    A `__getattr__` would make all other attributes of the class slower.
    """

    def __init__(self, name: str, library: str, instead: str) -> None:
        self._name = name
        self._library = library
        self._instead = instead

    def __get__(self, found: Any, owner: type) -> NoReturn:
        called = getattr(found, "name", "task")
        instead = self._instead.format(called)
        blocking = f"; without an event loop, {called}.enqueue_sync(…)" if ".enqueue(" in instead else ""
        raise AttributeError(
            f".{self._name}() is of {self._library}; write {instead}{blocking}", name=self._name, obj=found
        )


def explain(cls: type) -> None:
    """Let objects of a class, which have a `name`, explain the calls of other libraries; `dir()` hides these."""
    _explain(cls, _CALLS)


def explain_queue(cls: type) -> None:
    """As `explain`, for what other libraries call on a queue."""
    _explain(cls, _QUEUE_CALLS)


def _explain(cls: type, calls: Mapping[str, tuple[str, str]]) -> None:
    for name, (library, instead) in calls.items():
        setattr(cls, name, Elsewhere(name, library, instead))

    def names_that_are_there(found: object) -> list[str]:
        return [name for name in object.__dir__(found) if name not in calls]

    cls.__dir__ = names_that_are_there  # type: ignore[method-assign,assignment]


def check_class_task(task: str, name: str) -> None:
    """`AttributeError` for a name by which another library, or a task function, is sent."""
    if name in _CALLS or name in _OF_FUNCTIONS:
        whose = f".{name}() is of {_CALLS[name][0]}" if name in _CALLS else f"a class task has no .{name}()"
        raise AttributeError(
            f"{whose}; write await queue.enqueue({task}(…)), or {task}(…).options(delay=…) for options", name=name
        )
