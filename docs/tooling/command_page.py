"""docs/reference/commands.md: every command, its arguments and options, as `--help` tells them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from taskfleet.cli import app
from taskfleet_operator.kubectl import plugin


def render() -> str:
    return "\n".join(_lines(typer.main.get_command(app.build()), "taskfleet"))


def render_kubectl() -> str:
    return "\n".join(_lines(typer.main.get_command(plugin.build()), "kubectl taskfleet"))


def _lines(command: Any, path: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        if command.invoke_without_command and path != "taskfleet":
            yield from _entry(command, path)
        for name, inner in sorted(command.commands.items()):
            if not inner.hidden:
                yield from _lines(inner, f"{path} {name}")
    else:
        yield from _entry(command, path)


def _entry(command: Any, path: str) -> Iterator[str]:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    yield f"## {path}\n"
    yield f"{_text(command.help)}\n"
    yield f"`{' '.join([path, '[OPTIONS]', *map(_metavar, arguments)])}`\n"
    if shown:
        yield "| argument or option | default | meaning |"
        yield "| --- | --- | --- |"
        for one in shown:
            yield f"| {_names(one)} | {_default(one)} | {_cell(_text(one.help or ''))} |"
        yield ""


def _text(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").replace("\b", "").split())


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _metavar(one: Any) -> str:
    name = str(one.metavar or one.name.upper()).removeprefix("[").removesuffix("...").removesuffix("]")
    many = "…" if one.nargs == -1 else ""
    return f"{name}{many}" if one.required else f"[{name}{many}]"


def _names(one: Any) -> str:
    if one.param_type_name == "argument":
        return _cell(f"`{_metavar(one)}`")
    return _cell(", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts]))


def _default(one: Any) -> str:
    if one.required:
        return "required"
    value = one.default
    if getattr(one, "is_flag", False):
        return "on" if value is True else "off" if value is False else ""
    if value is None or value in ("", [], ()) or callable(value):
        return ""
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return _cell(f"`{value:g}`" if isinstance(value, float) else f"`{value}`")
