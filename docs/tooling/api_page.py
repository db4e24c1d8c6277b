"""docs/reference/api.md: every public name of the library, with its signature and its docstring."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import pydantic
from docs.tooling.attributes import texts_of

import taskfleet

# The topics of the page. A name that is public and in none of them fails.
TOPICS = {
    "Queues": "TaskQueue TaskQueueBuilder queue_names QueueOptions RateLimit DeadLetterOptions",
    "Tasks": "TaskFunction Task Message Retry RetryLater Depends BatchTask BatchItem",
    "Inside a task": "current_task TaskContext",
    "Handles and workflows": "TaskHandle GroupHandle chain group chord",
    "Middleware": "Middleware SendNext CallNext WorkerContext",
    "What can be read": "TaskInfo AttemptError TaskPage Progress QueueStats WorkerInfo DeadLetter Schedule",
    "Errors": (
        "TaskQueueError BrokerConnectionError BrokerOutOfMemoryError BulkEnqueueError ConfigurationError "
        "InvalidQueueNameError PayloadTooLargeError QueueFullError SerializationError BadSignatureError "
        "NewerVersionError TaskExecutionError RunTimeoutError TaskCancelledError TaskNotFoundError TaskStateError "
        "TaskTimeoutError ResultTimeoutError"
    ),
    "Version": "__version__",
}

# Objects that the library makes: their fields and methods count, not how they are made.
GIVEN = {
    "TaskFunction", "BatchTask", "BatchItem", "Message", "TaskHandle", "GroupHandle", "TaskContext", "WorkerContext",
    "Task", "Progress", "WorkerInfo", "TaskInfo", "AttemptError", "TaskPage", "QueueStats", "DeadLetter", "Schedule",
}  # fmt: skip


def render() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    for topic, names in TOPICS.items():
        yield f"## {topic}\n"
        for name in names.split():
            yield from _entry(name, getattr(taskfleet, name))


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### {name}\n" if not name.startswith("__") else f"### `{name}`\n"
    if isinstance(value, ModuleType):
        yield _doc(value)
        for constant in (each for each in vars(value) if each.isupper()):
            yield f"- `{constant}` = `{getattr(value, constant)!r}`"
        yield ""
    elif inspect.isclass(value):
        yield from _class(name, value)
    elif callable(value) and not typing.get_origin(value):
        yield from _signatures(name, value)
        yield _doc(value)
    else:
        yield f"`{_plain(repr(value))}`\n"


def _class(name: str, cls: type[Any]) -> Iterator[str]:
    bases = [base.__name__ for base in cls.__bases__ if issubclass(base, BaseException)]
    if bases:
        yield f"An error; a kind of {', '.join(f'`{base}`' for base in bases)}.\n"
    elif name not in GIVEN:
        yield from _signatures(name, cls)
    yield _doc(cls)
    texts = texts_of(cls)
    if dataclasses.is_dataclass(cls):
        fields = [(field.name, str(field.type)) for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    elif issubclass(cls, pydantic.BaseModel):
        fields = []
    else:
        fields = [(field, str(cls.__annotations__[field])) for field in texts if field in cls.__annotations__]
    for field, annotation in fields:
        text = f": {texts[field]}" if field in texts else ""
        yield f"- `{field}: {_plain(annotation)}`{text}"
    if fields:
        yield ""
    for method, value in _members(cls):
        yield f"#### {name}.{method}\n"
        if isinstance(value, property):
            yield f"`{method}: {_plain(str(value.fget.__annotations__.get('return', '')))}`\n"
            yield _doc(value)
            continue
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        yield from _signatures(method, function, bound=not isinstance(value, staticmethod))
        yield _doc(function)


def _members(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """Public methods and properties with a docstring: the class's own, then those of its bases."""
    seen: dict[str, Any] = {}
    for base in cls.__mro__:
        if base.__module__.startswith("taskfleet"):
            seen = seen | {
                name: value for name, value in vars(base).items() if not name.startswith("_") and name not in seen
            }
    for name, value in seen.items():
        inner = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if isinstance(inner, FunctionType | property) and inner.__doc__:
            yield name, value


def _signatures(name: str, value: Any, *, bound: bool = False) -> Iterator[str]:
    overloads = typing.get_overloads(value) if inspect.isfunction(value) else []
    for each in overloads or [value]:
        try:
            signature = inspect.signature(each)
        except (TypeError, ValueError):
            continue
        prefix = "async " if inspect.iscoroutinefunction(value) else ""
        yield f"`{prefix}{name}{_signature(signature, bound=bound)}`\n"


def _signature(signature: inspect.Signature, *, bound: bool) -> str:
    parameters = list(signature.parameters.values())[1 if bound else 0 :]
    parts: list[str] = []
    keyword_only = False
    for one in parameters:
        if one.name.startswith("_") and one.default is not one.empty:
            continue  # not for callers
        if (
            one.kind is one.KEYWORD_ONLY
            and not keyword_only
            and all(p.kind is not p.VAR_POSITIONAL for p in parameters)
        ):
            parts.append("*")
        keyword_only = keyword_only or one.kind is one.KEYWORD_ONLY
        stars = "*" if one.kind is one.VAR_POSITIONAL else "**" if one.kind is one.VAR_KEYWORD else ""
        text = f"{stars}{one.name}"
        if one.annotation is not one.empty:
            text += f": {_plain(_annotation(one.annotation))}"
        if one.default is not one.empty:
            text += f" = {_value(one.default)}" if ":" in text else f"={_value(one.default)}"
        parts.append(text)
    returns = signature.return_annotation
    end = "" if returns is signature.empty else f" -> {_plain(_annotation(returns))}"
    return f"({', '.join(parts)}){end}"


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _value(value: Any) -> str:
    text = repr(value)
    return "…" if text.startswith("<") or " at 0x" in text else text


def _plain(text: str) -> str:
    """An annotation without modules and quotes."""
    text = re.sub(r"\bForwardRef\('([^']+)'[^)]*\)", r"\1", text)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text).replace("'", "")


def _doc(value: Any) -> str:
    """The docstring, with its indented lines as an own paragraph of text."""
    text = inspect.cleandoc(value.__doc__ or "")
    if dataclasses.is_dataclass(value) and text.startswith(f"{getattr(value, '__name__', '')}("):
        return ""  # made by dataclass, of the signature
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(_block(block) for block in blocks) + "\n" if text else ""


def _block(block: str) -> str:
    """A paragraph; arguments become a list, and other indented lines stay as they are."""
    lines = block.replace("<", "&lt;").splitlines()
    begin = next((n for n, line in enumerate(lines) if line == "Args:"), None)
    if begin is None:
        if all(line.startswith("    ") for line in lines):
            return f"<!-- illustration: from a docstring -->\n```text\n{inspect.cleandoc(block)}\n```"
        return "\n".join(lines)
    end = next((n for n in range(begin + 1, len(lines)) if not lines[n].startswith(" ")), len(lines))
    return "\n\n".join(
        part for part in ("\n".join(lines[:begin]), _arguments(lines[begin + 1 : end]), "\n".join(lines[end:])) if part
    )


def _arguments(lines: list[str]) -> str:
    """`    name: text`, where deeper lines go on."""
    found: list[str] = []
    for line in lines:
        if line.startswith("     ") and found:
            found[-1] += f" {line.strip()}"
        else:
            name, _, text = line.strip().partition(": ")
            found.append(f"- `{name}`: {text}")
    return "\n".join(found)
