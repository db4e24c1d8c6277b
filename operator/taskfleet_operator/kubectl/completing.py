"""Completion, as kubectl asks for it: it runs `kubectl_complete-taskfleet WORDS`, and reads names, one a line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from typing import Any

from . import plugin
from .cluster import ClusterAccess
from .dashboard import find
from .queues import all_queues
from .workers import all_workers

_NO_FILES = ":4"


def complete(words: list[str]) -> int:
    """Print the names that the last word may become. A cluster that does not answer completes nothing."""
    *before, last = words or [""]
    found: Iterable[str] = ()
    with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
        found = sorted({each for each in _names(before) if each.startswith(last)})
    print("\n".join([*found, _NO_FILES]))
    return 0


def _names(before: list[str]) -> Iterable[str]:
    import typer

    commands = _commands_of(typer.main.get_command(plugin.build()))
    valued = set(_valued(commands.values()))
    given: dict[str, str] = {}
    plain: list[str] = []
    words = iter(before)
    for word in words:
        option, is_whole, value = word.partition("=")
        if word in valued:
            given[word] = next(words, "")
        elif option in valued and is_whole:
            given[option] = value
        elif not word.startswith("-"):
            plain.append(word)
    if not plain:
        return commands
    if plain == ["dead"]:
        return _commands_of(commands["dead"])
    cluster = ClusterAccess.connect(
        given.get("--kubeconfig", ""), given.get("--context", ""), given.get("-n") or given.get("--namespace", "")
    )
    match plain:
        case ["explain"]:
            return cluster.taskqueues(cluster.namespace)
        case ["pause" | "resume"]:
            return [row["name"] for row in all_queues(find(cluster, given.get("--dashboard", "")))]
        case ["cordon" | "uncordon" | "drain"]:
            return [row["name"] for row in all_workers(find(cluster, given.get("--dashboard", "")))]
        case _:
            return ()


def _commands_of(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def _valued(commands: Iterable[Any]) -> Iterator[str]:
    """The options that the next word is a value of."""
    for command in commands:
        yield from _valued(_commands_of(command).values())
        for each in command.params:
            if each.param_type_name == "option" and not each.is_flag:
                yield from each.opts
