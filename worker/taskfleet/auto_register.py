"""Import the modules that tasks are defined in, and find what they define."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from taskfleet.errors import ConfigurationError
from taskfleet.namespace import CLASS_TASKS
from taskfleet.tasks import Definition, Task, TaskFunction


def import_all(name: str) -> list[ModuleType]:
    """The module `name`, or the package and every module in it except `__main__`.

    Errors: `ConfigurationError` names the module that cannot be imported and why.
    """
    module = _import(name)
    modules = [module]
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if found.name.rpartition(".")[2] != "__main__":
            modules += import_all(found.name)
    return modules


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"there is no module {name!r} on the path; run this where it can be imported, or set PYTHONPATH"
            ) from None
        raise ConfigurationError(f"importing {name!r} failed: no module {error.name!r}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"importing {name!r} failed: {type(error).__name__}: {error}") from error


def definitions_of(module: ModuleType) -> Iterator[Definition]:
    """Function tasks that the module names, its own and those it has imported."""
    for value in vars(module).values():
        if isinstance(value, TaskFunction):
            yield value.definition


def class_tasks_of(module: ModuleType) -> Iterator[Definition]:
    """Class tasks that the module names."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Task) and value is not Task:
            yield CLASS_TASKS.get(value.name)
