"""Whether what a table of docs/migrate calls ours exists: a call, an option, a setting, a command, a route."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from fastapi import FastAPI
from pydantic import BaseModel

import taskfleet
from taskfleet import GroupHandle, TaskContext, TaskHandle, TaskQueue, config
from taskfleet.cli import app as command_line
from taskfleet.integrations.fastapi import router
from taskfleet.settings import Settings
from taskfleet.tasks.function import TaskFunction
from taskfleet.tasks.options import CallOptions, FunctionTaskOptions

# What the names of variables in the tables stand for.
VARIABLES: Mapping[str, tuple[type, ...]] = {
    "queue": (TaskQueue,),
    "handle": (TaskHandle, GroupHandle),
    "task": (TaskFunction,),
}
ARGUMENTS = {
    "url",
    "name",
    "done",
    "total",
    "id",
    "Ellipsis",
    "ValueError",
    "get_bank",
    "get_session",
}  # anybody's names
OPTIONS = {*CallOptions.__annotations__, *FunctionTaskOptions.__annotations__}


class Missing(Exception):
    """A name that is not there."""


def check(code: str) -> None:
    """Raise `Missing` when a name in `code` is not one of Taskfleet's."""
    if code.startswith(("taskfleet ", "--")):
        _check_command(code)
    elif code.startswith("/"):
        if f"/tasks{code}" not in routes():
            raise Missing(f"no route {code}")
    elif re.fullmatch(r"[A-Z][A-Z0-9_]+", code):
        if code not in variables():
            raise Missing(f"no variable {code}")
    elif (match := re.fullmatch(r"([a-z_]+)\.([a-z_]+)", code)) and match[1] in Settings.model_fields:
        if match[2] not in _keys(Settings.model_fields[match[1]].annotation):
            raise Missing(f"no setting {code}")
    else:
        _Expressions().check(code)


def _check_command(code: str) -> None:
    words = ("taskfleet worker " + code if code.startswith("--") else code).split()
    path = " ".join(word for word in words if not word.startswith("-"))
    if path not in commands():
        raise Missing(f"no command {path!r}")
    unknown = {word for word in words if word.startswith("-")} - commands()[path]
    if unknown:
        raise Missing(f"{path} has no {sorted(unknown)}")


@functools.cache
def commands() -> dict[str, set[str]]:
    """The options of each command."""
    return dict(_below(typer.main.get_command(command_line.build()), "taskfleet"))


def _below(group: Any, path: str) -> Iterator[tuple[str, set[str]]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _below(command, f"{path} {name}")
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield f"{path} {name}", {option for parameter in command.params for option in parameter.opts}


@functools.cache
def routes() -> Mapping[str, frozenset[str]]:
    """The methods of each path."""
    app = FastAPI()
    app.include_router(router(TaskQueue("memory://names-of-ours"), prefix="/tasks"))
    return {path: frozenset(methods) for path, methods in app.openapi()["paths"].items()}


@functools.cache
def variables() -> frozenset[str]:
    """The named variables, and that of each setting."""
    settings = {
        f"TASKFLEET_{section}__{key}".upper()
        for section, field in Settings.model_fields.items()
        for key in _keys(field.annotation)
    }
    return frozenset({*config.NAMED, *settings, "TASKFLEET_LOG_LEVEL", "TASKFLEET_WORKER_NAME", "TASKFLEET_QUEUES"})


def _keys(section: type[BaseModel] | None) -> set[str]:
    return set() if section is None else set(section.model_fields)


def _has(owner: Any, name: str) -> bool:
    classes = owner.__mro__ if inspect.isclass(owner) else ()
    return hasattr(owner, name) or any(name in getattr(cls, "__annotations__", {}) for cls in classes)


class _Expressions:
    """Checks expressions as `task.options(delay=60)`, `Retry.fixed(1)`, `@queue.task(queue="mail")` or `delay=60`."""

    def check(self, code: str) -> None:
        source = code.removeprefix("@").replace("…", "...")
        if re.match(r"[a-z_]+=", source):
            source = f"options({source})"
        try:
            tree = ast.parse(source, mode="eval").body
        except SyntaxError:
            raise Missing(f"{code} is not an expression") from None
        self._owners(tree)

    def _owners(self, node: ast.expr) -> tuple[Any, ...]:
        """What the expression may be: objects that have its attributes. Everything inside is checked on the way."""
        match node:
            case ast.Name(id=name):
                return self._named(name)
            case ast.Attribute(value=value, attr=attr):
                owners = [owner for owner in self._owners(value) if _has(owner, attr)]
                if not owners:
                    raise Missing(f"no {ast.unparse(node)}")
                return tuple(getattr(owner, attr, None) for owner in owners)
            case ast.Call(func=func, args=args, keywords=keywords):
                for value in [*args, *(keyword.value for keyword in keywords)]:
                    self._owners(value)
                return self._called(func, {keyword.arg or "" for keyword in keywords})
            case ast.List(elts=elements):
                for element in elements:
                    self._owners(element)
            case ast.Constant():
                pass
            case ast.UnaryOp(operand=operand):
                self._owners(operand)
            case _:
                raise Missing(f"{ast.unparse(node)} is of a form that is not checked")
        return (None,)

    def _named(self, name: str) -> tuple[Any, ...]:
        if name in VARIABLES:
            return VARIABLES[name]
        if name in taskfleet.__all__:
            return (getattr(taskfleet, name),)
        if name == "taskfleet":
            importlib.import_module("taskfleet.testing")
            return (taskfleet,)
        if name in ARGUMENTS or name == "options":
            return (None,)
        raise Missing(f"taskfleet has no {name}")

    def _called(self, func: ast.expr, keywords: set[str]) -> tuple[Any, ...]:
        text = ast.unparse(func)
        owners = self._owners(func)
        if text in {"options", "queue.task", "task.options"}:
            known = {"options": OPTIONS | _parameters(TaskQueue) | _parameters(TaskQueue.add_schedule)}.get(text)
            known = known or set((CallOptions if text == "task.options" else FunctionTaskOptions).__annotations__)
        else:
            known = {name for owner in owners if callable(owner) for name in _parameters(owner)}
        if text != "task" and not keywords <= known:
            raise Missing(f"{text} has no {sorted(keywords - known)}")
        return (TaskContext,) if text == "current_task" else (None,)


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def tables(page: str) -> Iterator[tuple[str, str]]:
    """(first cell, second cell) of the rows of a page's tables, without the headers."""
    rows = [line for line in page.splitlines() if line.startswith("|")]
    for row, following in zip(rows, [*rows[1:], ""], strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if set(cells[0]) != {"-"} and not re.match(r"\| -+ \|", following):
            yield cells[0], cells[1]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
