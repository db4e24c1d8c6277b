"""How a process finds the function of a task: by import, as it has nothing of its parent's memory."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from taskfleet.errors import ConfigurationError
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.function import TaskFunction
from taskfleet.tasks.signature import Signature


def check(definition: Definition) -> None:
    """Whether a process will find the definition's function; `ConfigurationError` says why it will not.

    To be asked when all modules are loaded, so when a worker starts.
    """
    function = definition.function
    module, qualname = function.__module__, function.__qualname__
    problem = "another process finds it by module and name"
    if module == "__main__":
        raise ConfigurationError(
            f"task {definition.name!r} ({definition.location}) is defined in the program's main file or a notebook, "
            f"and with executor='process' {problem}: move it into a module that can be imported"
        )
    found = _walk(sys.modules.get(module), qualname)
    if any(thing is function or _definition(thing) is definition for thing in _unwrapped(found)):
        return
    raise ConfigurationError(
        f"task {definition.name!r} ({definition.location}): with executor='process' {problem}, and {module}:{qualname} "
        f"is {'not there' if found is None else f'something else, {found!r}'}; give the function a name of its own "
        "there"
    )


def find(module: str, qualname: str, name: str) -> tuple[Callable[..., Any], Signature]:
    """The function at `module:qualname` of the task `name`, and its signature. Errors are those of the import."""
    found = _walk(importlib.import_module(module), qualname)
    if found is None:
        raise ImportError(f"module {module!r} has no {qualname!r}: the process has imported another version of it")
    for thing in _unwrapped(found):
        definition = _definition(thing)
        # Decorated twice, a function is behind two names.
        if definition is not None and definition.name == name:
            return definition.function, definition.signature
    return found, Signature(found, name)


def _walk(module: Any, qualname: str) -> Any:
    thing = module
    for part in qualname.split("."):
        thing = getattr(thing, part, None)
    return thing


def _unwrapped(thing: Any) -> Iterator[Any]:
    """What stands at a name, and what decorators put it around."""
    while thing is not None:
        yield thing
        thing = getattr(thing, "__wrapped__", None)


def _definition(thing: Any) -> Definition | None:
    return thing.definition if isinstance(thing, TaskFunction) else None
