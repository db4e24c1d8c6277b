"""docs/reference/command.md names every command and every option of `taskfleet`, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from taskfleet.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "command.md").read_text(encoding="utf-8")


def _commands(group: Any, path: str = "taskfleet") -> Iterator[tuple[str, set[str]]]:
    """(path, options) of each command that runs something, such as `taskfleet dead list`."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        if not hasattr(command, "commands") or command.invoke_without_command:
            shown = [one for one in command.params if not getattr(one, "hidden", False)]
            yield f"{path} {name}", {option for one in shown for option in one.opts if option.startswith("--")}


COMMANDS = dict(_commands(typer.main.get_command(app.build())))


@pytest.mark.parametrize("path", COMMANDS)
def test_a_command_and_its_options_are_on_the_page(path: str) -> None:
    assert f"| `{path}" in PAGE
    assert {option for option in COMMANDS[path] if f"`{option}" not in PAGE and f" {option} " not in PAGE} == set()


def test_the_page_names_no_other_command_or_option() -> None:
    named = {path.strip() for path in re.findall(r"^\| `(taskfleet [a-z -]+)", PAGE, re.MULTILINE)}
    assert named == COMMANDS.keys()
    options = set(re.findall(r"--[a-z][a-z-]*", PAGE)) - {"--help"}
    assert options == set[str]().union(*COMMANDS.values())
