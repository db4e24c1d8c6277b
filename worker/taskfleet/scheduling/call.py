"""The call that a schedule makes: checked and encoded when the schedule is added, the same at each tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from taskfleet import checks, queue_names
from taskfleet.errors import ConfigurationError, SerializationError
from taskfleet.producer import sendable
from taskfleet.tasks import class_task
from taskfleet.tasks.class_task import Task
from taskfleet.tasks.definition import Definition, define
from taskfleet.tasks.function import TaskFunction
from taskfleet.tasks.message import Message
from taskfleet.tasks.namespace import CLASS_TASKS, Registry
from taskfleet.tasks.options import TaskOptions
from taskfleet.travel.problems import problem_of

ScheduledTask = TaskFunction[..., Any, Any] | type[Task[Any]] | Task[Any] | str


def message_of(task: ScheduledTask, args: Sequence[Any], kwargs: Mapping[str, Any], registry: Registry) -> Message[Any]:
    """The call as a message.

    A class task takes its fields as keyword arguments; an instance has them already. A name that is not defined in this
    process is accepted, so that a program without the task's code can schedule it. Its arguments must then be of types
    that messagepack has; the worker that runs the task checks them.

    Errors: `SerializationError` names the parameter, `ConfigurationError` the argument of `add_schedule`.
    """
    if isinstance(task, str):
        definition = registry.find(task)
        if definition is None and (definition := CLASS_TASKS.find(task)) is not None:
            cls = _class_of(definition)
            # A caller may also give the whole class task as the argument `task`, as a worker receives it.
            if not args and set(kwargs) != {"task"}:
                task = cls
        if isinstance(task, str):
            definition = definition or _undefined(task)
            return Message(definition, tuple(args), dict(kwargs), definition.options)
    if isinstance(task, TaskFunction):
        return Message(task.definition, tuple(args), dict(kwargs), task.definition.options)
    if isinstance(task, Task):
        if args or kwargs:
            raise ConfigurationError(
                f"task {task.name!r} is an instance: its fields are set, args and kwargs have no use"
            )
        return class_task.message_of(task)
    # A caller without a type checker may pass any value.
    if isinstance(task, type) and issubclass(task, Task):  # pyright: ignore[reportUnnecessaryIsInstance]
        return class_task.message_of(_instance(task, args, kwargs))
    raise _no_task(task)


def _no_task(thing: object) -> ConfigurationError:
    sendable.close_unused(thing)
    return ConfigurationError(
        f"task={checks.shown(thing)} is not a task; expected a task function, a Task class or instance, or a name"
    )


def _instance(cls: type[Task], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Task:
    if args:
        raise ConfigurationError(f"task {cls.name!r} is a class: give its fields as kwargs")
    try:
        return cls(**kwargs)
    except Exception as error:  # validators of the application may raise any exception
        raise SerializationError(f"task {cls.name!r}, field {problem_of(error)}") from None


def _class_of(definition: Definition) -> type[Task]:
    return cast("type[Task]", definition.function.__annotations__["task"])


def _undefined(name: str) -> Definition:
    if not name:
        raise ConfigurationError("task='' is not the name of a task")
    checks.text("task", name)

    async def anything(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    return define(name, anything, TaskOptions(queue=queue_names.DEFAULT))
