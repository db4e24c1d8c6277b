"""Taskfleet, from this checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.errors import PeerUnavailable
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
        try:
            import taskfleet  # noqa: F401
        except ImportError as error:
            raise PeerUnavailable(f"taskfleet is not installed here ({error}): run `make venv`") from None
        return Program((sys.executable, str(Path(__file__).parent / "peer.py")), {"PYTHONPATH": _PATH})
