"""Asynq, on Go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import environments
from bench.peer import OURS_ALONE, Program

_HERE = Path(__file__).parent
_LACKS = {"enqueue_bulk": "it has no bulk enqueue", "result": "nobody can wait for its results"}


@dataclass(frozen=True, slots=True)
class Asynq:
    name: str = "asynq"
    version: str = "0.26.0"
    python: bool = False
    most: int = 1_000_000
    lacks: Mapping[str, str] = field(default_factory=lambda: OURS_ALONE | _LACKS)

    def prepare(self) -> Program:
        go = environments.tool("go", self.name)
        folder = environments.built(
            self.name,
            self.version,
            [_HERE / "go.mod", _HERE / "go.sum", _HERE / "main.go"],
            lambda at: environments.run([go, "build", "-mod=readonly", "-trimpath", "-o", "peer", "."], at, self.name),
        )
        return Program((str(folder / "peer"),))
