"""Finds the enqueued tasks that an assertion describes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taskfleet import checks, queue_names
from taskfleet.errors import ConfigurationError, TaskQueueError
from taskfleet.memory.enqueued import EnqueuedTask
from taskfleet.tasks.definition import Definition

if TYPE_CHECKING:
    import datetime as dt

    from taskfleet.application import Application
    from taskfleet.tasks.class_task import Task
    from taskfleet.tasks.function import TaskFunction

_DELAY_SECONDS = 1.0  # how far a delay may be from the expected one
_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Expected:
    """What an enqueued task should be. `None` and missing arguments match all; `due_before` is in ms."""

    name: str | None
    args: Sequence[Any] | None
    kwargs: Mapping[str, Any] | None
    queue: str | None
    delay: float | None
    within: float | None

    def __str__(self) -> str:
        given = [*map(repr, self.args or ()), *(f"{name}={value!r}" for name, value in (self.kwargs or {}).items())]
        text = f"{self.name or 'any task'}({', '.join([*given, '…'] if self.args is None else given)})"
        text += f" in {self.queue}" if self.queue is not None else ""
        text += f", {self.delay:g} s later" if self.delay is not None else ""
        return text + (f", due within {self.within:g} s" if self.within is not None else "")

    def matches(self, task: EnqueuedTask, application: Application, now_ms: float) -> bool:
        """Whether the task is as expected."""
        due_ms = task.due_at.timestamp() * 1000 if task.due_at is not None else 0.0
        return (
            self.name in (None, task.name)
            and self.queue in (None, task.queue)
            and (self.delay is None or abs(task.delay - self.delay) <= _DELAY_SECONDS)
            and (self.within is None or due_ms - now_ms <= self.within * 1000)
            and self._arguments_match(task, application.find_task(task.name))
        )

    def _arguments_match(self, task: EnqueuedTask, definition: Definition | None) -> bool:
        """Whether the expected arguments are among those of the task, as values or as they were encoded."""
        if self.args is None and not self.kwargs:
            return True
        found = [_named(definition, task.args, task.kwargs)]
        if definition is not None:
            with contextlib.suppress(TaskQueueError):  # a task of a workflow, whose first argument comes later
                found.append(_named(definition, *definition.signature.load(*task.encoded)))
        expected = _named(definition, list(self.args or ()), dict(self.kwargs or {}))
        if self.args is not None and not self.kwargs and expected.keys() != found[0].keys():
            return False  # `args` alone are all arguments
        return all(any(key in some and some[key] == value for some in found) for key, value in expected.items())


def expected(
    task: str | TaskFunction[Any, Any, Any] | type[Task[Any]] | None,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    queue: str | None,
    delay: float | dt.timedelta | None,
    within: float | dt.timedelta | None,
) -> Expected:
    """What an assertion describes, with `ConfigurationError` for what cannot be."""
    if isinstance(args, str):
        raise ConfigurationError(f"args={args!r} is one text; write args=({args!r},)")
    return Expected(
        name_of(task),
        args,
        kwargs,
        None if queue is None else queue_names.validate(queue),
        None if delay is None else checks.seconds("delay", delay),
        None if within is None else checks.seconds("within", within),
    )


def name_of(task: str | TaskFunction[Any, Any, Any] | type[Task[Any]] | None) -> str | None:
    """The name of a task that is given by its name, its function or its class."""
    if task is None or isinstance(task, str):
        return task
    return task.name


def _named(definition: Definition | None, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names of their parameters, however they were given."""
    if definition is not None:
        try:
            return dict(inspect.signature(definition.function).bind_partial(*args, **kwargs).arguments)
        except TypeError:
            pass
    return {**{str(position): value for position, value in enumerate(args)}, **kwargs}


def problem(expected: Expected, count: str, found: int, enqueued: Sequence[EnqueuedTask]) -> str:
    """The message of a failed assertion: what was expected, and what was enqueued."""
    there = [f"  {task}" for task in enqueued[-_MOST_SHOWN:]] or ["  nothing"]
    more = f" (the last {_MOST_SHOWN} of {len(enqueued)})" if len(enqueued) > _MOST_SHOWN else ""
    return f"expected {count} {expected}, found {found}; enqueued{more}:\n" + "\n".join(there)
