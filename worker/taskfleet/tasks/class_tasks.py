"""Tells class tasks from other things without their class: that is a pydantic model, and pydantic takes 7 MB of memory.

There can be no class task before the application has imported `class_task`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskfleet.tasks.member import TypedResult

if TYPE_CHECKING:
    import typing_extensions

    from taskfleet.tasks.class_task import Task
    from taskfleet.tasks.message import Message


def is_one(thing: object) -> typing_extensions.TypeIs[Task[Any]]:
    """Whether `thing` is an instance of a class task."""
    return isinstance(thing, TypedResult)


def is_class(thing: object) -> typing_extensions.TypeIs[type[Task[Any]]]:
    """Whether `thing` is the class of class tasks."""
    return isinstance(thing, type) and issubclass(thing, TypedResult)


def message_of(task: Task[Any]) -> Message[Any]:
    """The message of a class task, also of one with a field of that name."""
    from taskfleet.tasks import class_task

    return class_task.message_of(task)
