"""The question before a command destroys something."""

from __future__ import annotations

import signal
import sys

import typer

from taskfleet.errors import TaskQueueError

YES = typer.Option(False, "--yes", "-y", help="Do not ask.")


class UnansweredError(TaskQueueError):
    """There is nobody who could answer the question."""


def ask(question: str, *, yes: bool) -> None:
    """Return if the answer is yes. `question` is a sentence without its question mark."""
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise UnansweredError(f"{question}? Without a terminal nobody can answer; say yes with --yes")
    # The loop that runs around this call would only note the signal, and the prompt would go on waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        typer.confirm(f"{question}?", abort=True, err=True)
    finally:
        signal.signal(signal.SIGINT, before)
