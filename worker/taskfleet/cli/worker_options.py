"""The options of `taskfleet worker`, and the reading of a plain command line without Typer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


def _number(default: int | None, least: int, most: int) -> Any:
    return field(default=default, metadata={"range": range(least, most + 1)})


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a worker is started with. The command has an option of the same name for each field but the first."""

    application: str
    queues: str = ""
    concurrency: int | None = _number(None, 1, 10_000)
    processes: int = _number(1, 1, 256)
    name: str = ""
    burst: bool = False
    probe_port: int = _number(0, 0, 65535)
    probe_host: str = "::"
    log_level: str = ""
    log_format: str = ""
    reload: bool = False
    redis: str = ""
    number: int = _number(0, 0, 255)
    check: bool = False


def read(arguments: Sequence[str]) -> WorkerOptions | None:
    """The options in a plain command line, which is what process managers have.

    None for any other: one with an error, `--help`, or a form that only Typer knows.
    """
    known = {f"--{each.name.replace('_', '-')}": each for each in dataclasses.fields(WorkerOptions)[1:]}
    given: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        option = known.get(word)
        if option is None:
            name, value = "application", word + equals + value
        elif option.default is False:
            name = option.name
            if equals:
                return None
        else:
            name = option.name
            if not equals:
                value = rest.pop(0) if rest else "-"
        if name in given or value.startswith("-"):
            return None
        given[name] = True if option is not None and option.default is False else value
        if option is not None and (allowed := option.metadata.get("range")) is not None:
            if not (value.isascii() and value.isdecimal() and len(value) < 10 and int(value) in allowed):
                return None
            given[name] = int(value)
    return WorkerOptions(**given) if given.get("application") else None
