"""Taskfleet, from this checkout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench import environments
from bench.peer import CHECKOUT, Program

# The library comes from this checkout too, not from the one that the environment has installed: trees are compared so.
_PATH = os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "worker")))


@dataclass(frozen=True, slots=True)
class Taskfleet:
    name: str = "taskfleet"
    python: bool = True
    most: int = 10_000_000

    @property
    def version(self) -> str:
        return version("taskfleet")

    @property
    def lacks(self) -> Mapping[str, str]:
        return {}

    def prepare(self) -> Program:
        return program()


def program(python: Path | None = None) -> Program:
    """The program of Taskfleet on an interpreter, by default the one that runs this.

    It has the packages of the worker image and no others, as every Python peer has its own alone: what is loaded beside
    them costs memory, and time for each task.
    """
    requirements = CHECKOUT / "requirements" / "worker.txt"
    interpreter = environments.python_environment("taskfleet", version("taskfleet"), requirements, python)
    return Program((str(interpreter), str(Path(__file__).parent / "peer.py")), {"PYTHONPATH": _PATH})
