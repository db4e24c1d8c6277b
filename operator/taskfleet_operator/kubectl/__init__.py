"""`kubectl taskfleet`: asks the dashboard in a cluster, through the API server and with the rights of who calls it."""

from __future__ import annotations


def main() -> None:
    """Run the command. Exit codes: 0 success, 1 failure, 2 usage, 130 after Ctrl-C."""
    from taskfleet.cli import main as frame

    frame(_run, extra="kubectl")


def complete() -> None:
    """Answer kubectl, which runs `kubectl_complete-taskfleet WORDS` to complete the last word."""
    from taskfleet.cli import main as frame

    frame(_complete, extra="kubectl")


def _run(arguments: list[str]) -> int:
    from taskfleet.cli import app

    from .plugin import build

    return app.run(arguments, build, "kubectl taskfleet")


def _complete(words: list[str]) -> int:
    from .completing import complete

    return complete(words)
