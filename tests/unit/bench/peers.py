"""A peer that is never built or run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.peer import Program


@dataclass(frozen=True, slots=True)
class FakePeer:
    name: str
    version: str = "1.0"
    python: bool = False
    most: int = 1_000_000
    lacks: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> Program:
        raise AssertionError("nothing is built in these tests")
