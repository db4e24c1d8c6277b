"""The task and the arguments that a command line names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taskfleet.cli import similar
from taskfleet.errors import ConfigurationError

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue
    from taskfleet.tasks.definition import Definition
    from taskfleet.tasks.message import Message

    MakeMessage = Callable[[Sequence[Any], dict[str, Any]], Message[Any]]


def parsed(text: str | bytes, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(positional, named) arguments of a JSON text. Errors: `ConfigurationError` begins with `where`."""
    try:
        # Of bytes, json would guess the encoding, and take the first line of a file in UTF-16 alone.
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where} is not JSON in UTF-8: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{where} is not JSON that anybody reads: too many levels") from None
    except ValueError as error:
        example = f"; write it such as {where} '[1, \"text\"]'" if where.startswith("--") else ""
        raise ConfigurationError(f"{where} is not JSON: {error}{example}") from None
    if isinstance(value, list):
        return tuple(value), {}
    if isinstance(value, dict):
        return (), value
    raise ConfigurationError(f"{where} must be a JSON list, or an object of named arguments")


def definition_of(queue: TaskQueue, name: str) -> Definition:
    """The definition of a task of the application. Errors: `UnknownNameError` with a similar name."""
    definition = queue.application.find_task(name)
    if definition is None:
        from taskfleet.tasks.namespace import CLASS_TASKS

        known = {each.name for registry in (queue.registry, CLASS_TASKS) for each in registry}
        raise similar.unknown("no task is named", name, known)
    return definition


def message_of(queue: TaskQueue, task: str, to: str | None, delay: float) -> MakeMessage:
    """A function that makes the message of some arguments; those of a class task are its fields.

    Errors: `TaskQueueError` for a wrong task or option.
    """
    from taskfleet.scheduling import call
    from taskfleet.tasks.message import Message

    options = definition_of(queue, task).options.for_call({"queue": to, "delay": delay})

    def message(positional: Sequence[Any], named: dict[str, Any]) -> Message[Any]:
        made = call.message_of(task, positional, named, queue.registry)
        return Message(made.task, made.args, made.kwargs, options)

    return message
