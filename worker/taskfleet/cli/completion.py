"""`taskfleet completion bash|zsh|fish`."""

from __future__ import annotations

import enum
import os
from typing import Any

import typer

_VARIABLE = "_TASKFLEET_COMPLETE"


class Shell(enum.StrEnum):
    """The shells that the command can complete in."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


_SHELL = typer.Argument(..., metavar="bash|zsh|fish")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def completion(shell: Shell = _SHELL) -> int:  # pyright: ignore[reportUnusedFunction]
        """Print the script that completes commands and options; source it in the shell's start file."""
        from typer import completion

        # Typer documents both functions and does not list them as exported.
        make: Any = completion.get_completion_script  # type: ignore[attr-defined]
        print(make(prog_name="taskfleet", complete_var=_VARIABLE, shell=shell.value))
        return 0


def prepare() -> None:
    """Let Typer answer the shell, if it is the shell that has called the command."""
    if _VARIABLE in os.environ:
        from typer import completion

        completion.completion_init()  # type: ignore[attr-defined]
