"""Checks that callers send messages; the `TypeError` for anything else says how to write the call."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard, cast

from taskfleet import checks
from taskfleet.errors import ConfigurationError
from taskfleet.handles import GroupHandle, TaskHandle
from taskfleet.tasks import class_tasks
from taskfleet.tasks.function import BoundTask, TaskFunction
from taskfleet.tasks.member import TypedResult
from taskfleet.tasks.message import Message
from taskfleet.tasks.workflow import Workflow

_ONLY_MESSAGES = {Message}
_ENQUEUES = (TaskFunction.enqueue.__qualname__, BoundTask.enqueue.__qualname__)


def message_of(thing: object, call: str) -> Message[Any]:
    """The message of `thing`: itself, or that of a class task.

    `call` is the call for the error, such as `queue.enqueue`.
    """
    if isinstance(thing, Message):
        return thing
    if class_tasks.is_one(thing):
        return class_tasks.message_of(thing)
    raise TypeError(f"{call}: {_instead(thing)}")


def messages_of(things: object, call: str) -> Sequence[Message[Any]]:
    """The messages of a list or other iterable. Errors: `TypeError` names the position of any other value in it."""
    if isinstance(things, (list, tuple)) and _are_messages(cast("Sequence[object]", things)):
        return cast("Sequence[Message[Any]]", things)
    if isinstance(things, (str, bytes, Mapping, Message, TypedResult, Workflow)) or not isinstance(things, Iterable):
        what = "an async iterable" if isinstance(things, AsyncIterable) else checks.a_thing(things)
        raise TypeError(f"{call}: {what} is no list of messages; write [task.message(…) for … in …]")
    found = list(cast("Iterable[object]", things))
    problem: TypeError | None = None
    messages: list[Message[Any]] = []
    for position, thing in enumerate(found):
        try:
            messages.append(message_of(thing, f"{call}: message {position}"))
        except TypeError as error:
            problem = problem or error  # the others are checked too, which closes coroutines among them
    if problem is not None:
        raise problem
    return messages


def _are_messages(things: Sequence[object]) -> TypeGuard[Sequence[Message[Any]]]:
    return set(map(type, things)) <= _ONLY_MESSAGES


def check_workflow(queue: str | None) -> None:
    """`ConfigurationError` when a workflow is sent to one queue: its members have their own."""
    if queue is not None:
        raise ConfigurationError(
            f"queue={checks.shown(queue)}: the members of a workflow go to queues of their own; "
            "set it with task.options(queue=…).message(…)"
        )


def close_unused(thing: object) -> None:
    """Close the coroutine of a plain call that was passed in place of a task, since no caller will await it."""
    if inspect.iscoroutine(thing):
        thing.close()


def _instead(thing: object) -> str:
    name = getattr(thing, "__name__", type(thing).__name__)
    if isinstance(thing, TaskFunction):
        return f"{thing.name} is the task itself; write await {thing.name}.enqueue(…), or send {thing.name}.message(…)"
    if isinstance(thing, BoundTask):
        return "these are options without a call; write await task.options(…).enqueue(…), or send ….message(…)"
    if isinstance(getattr(thing, "__self__", None), (TaskFunction, BoundTask)):
        return f"{name} is a method that was not called; write task.message(…)"
    if inspect.iscoroutine(thing):
        close_unused(thing)
        if thing.__qualname__ in _ENQUEUES:
            return "that call sends by itself; write only await task.enqueue(…), or send task.message(…)"
        return f"{name}(…) is a plain call that runs here; write await {name}.enqueue(…), or send {name}.message(…)"
    if isinstance(thing, (TaskHandle, GroupHandle)):
        return "a handle is of what has been sent already; send task.message(…)"
    if class_tasks.is_class(thing):
        return f"{name} is a class; send an instance, {name}(…)"
    if isinstance(thing, str):
        return f"{checks.shown(thing)} is only a name; import the task and write await task.enqueue(…)"
    if isinstance(thing, Workflow):
        return "a workflow is sent alone, with await queue.enqueue(…)"
    if isinstance(thing, (list, tuple)):
        return (
            f"{checks.a_thing(thing)} is no message; send several with await queue.enqueue_many([task.message(…), …])"
        )
    if callable(thing):
        return f"{name} is no task; define it with @queue.task and write await {name}.enqueue(…)"
    return f"{checks.a_thing(thing)} is no message; send task.message(…) or an instance of a Task class"
