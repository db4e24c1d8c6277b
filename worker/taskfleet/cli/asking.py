"""The question before a command destroys something."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer

from taskfleet.errors import TaskQueueError

YES = typer.Option(False, "--yes", "-y", help="Do not ask.")

_ANSWERS = {"y": True, "yes": True, "n": False, "no": False, "": False}


class UnansweredError(TaskQueueError):
    """There is nobody who could answer the question."""


def ask(question: str, *, yes: bool) -> None:
    """Return if the answer is yes. `question` is a sentence without its question mark."""
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise UnansweredError(f"{question}? Without a terminal nobody can answer; say yes with --yes")
    with _heard_signals() as heard:
        while (answer := _ANSWERS.get(_line(f"{question}? [y/N]: ", heard))) is None:
            typer.echo("answer y or n", err=True)
    if not answer:
        raise typer.Abort


def _line(prompt: str, heard: int) -> str:
    """What is answered, in lower case; a line that Ctrl-D ends is none.

    A read of its own would miss a Ctrl-C that comes between the prompt and the read: Python has noted the signal
    then, and runs its handler after the read.
    """
    typer.echo(prompt, nl=False, err=True)
    terminal = sys.stdin.fileno()
    while terminal not in (ready := select.select([terminal, heard], [], [])[0]):
        os.read(ready[0], 1024)
    try:
        line = os.read(terminal, 4096).decode(errors="replace")
    except OSError as error:  # this command is in the background, where no shell can bring it to the front
        typer.echo(err=True)
        raise UnansweredError(f"the terminal gives no answer ({error.strerror}); say yes with --yes") from None
    if not line.endswith("\n"):
        typer.echo(err=True)
        return ""
    return line.strip().lower()


@contextmanager
def _heard_signals() -> Generator[int]:
    """A descriptor that is readable after a signal; Ctrl-C raises KeyboardInterrupt.

    The handlers of the loop that runs around the question would only note the signal.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    descriptor_before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    handler_before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, handler_before)
        signal.set_wakeup_fd(descriptor_before)
        os.close(heard)
        os.close(told)
