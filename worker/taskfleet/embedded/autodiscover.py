"""Imports the modules that define tasks, and finds their tasks."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from types import ModuleType

from taskfleet.process.loading import import_module
from taskfleet.tasks.class_task import Task
from taskfleet.tasks.definition import Definition
from taskfleet.tasks.function import TaskFunction
from taskfleet.tasks.namespace import CLASS_TASKS


def import_all(name: str) -> list[ModuleType]:
    """The module `name`, or the package and every module in it except `__main__`.

    Errors: `ConfigurationError` names the module that cannot be imported and why.
    """
    module = import_module(name)
    modules = [module]
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if found.name.rpartition(".")[2] != "__main__":
            modules += import_all(found.name)
    return modules


def definitions_of(module: ModuleType) -> Iterator[Definition]:
    """Function tasks among the names of the module, whether defined there or imported."""
    for value in vars(module).values():
        if isinstance(value, TaskFunction):
            yield value.definition


def class_tasks_of(module: ModuleType) -> Iterator[Definition]:
    """Class tasks among the names of the module."""
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, Task) and value is not Task:
            yield CLASS_TASKS.get(value.name)
