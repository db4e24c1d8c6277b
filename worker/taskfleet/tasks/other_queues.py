"""The names by which other libraries send a task, for errors that say how to write the call here."""

from __future__ import annotations

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
}
_OF_FUNCTIONS = frozenset({"enqueue", "enqueue_sync", "partial"})


class Elsewhere:
    """An attribute that is not there: the error says how to write the call here.

    A `__getattr__` would make all other attributes of the class slower.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type) -> NoReturn:
        called = "task" if task is None else task.name
        library, instead = _CALLS[self._name]
        blocking = f"; without an event loop, {called}.enqueue_sync(…)" if ".enqueue(" in instead else ""
        raise AttributeError(
            f".{self._name}() is of {library}; write {instead.format(called)}{blocking}", name=self._name, obj=task
        )


def explain(cls: type) -> None:
    """Let objects of a class, which have a `name`, explain the calls of other libraries; `dir()` hides these."""
    for name in _CALLS:
        setattr(cls, name, Elsewhere(name))
    cls.__dir__ = _names_that_are_there  # type: ignore[method-assign,assignment]


def _names_that_are_there(task: object) -> list[str]:
    return [name for name in object.__dir__(task) if name not in _CALLS]


def check_class_task(task: str, name: str) -> None:
    """`AttributeError` for a name by which another library, or a task function, is sent."""
    if name in _CALLS or name in _OF_FUNCTIONS:
        whose = f".{name}() is of {_CALLS[name][0]}" if name in _CALLS else f"a class task has no .{name}()"
        raise AttributeError(
            f"{whose}; write await queue.enqueue({task}(…)), or {task}(…).options(delay=…) for options", name=name
        )
