"""BullMQ, on Node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import environments
from bench.peer import OURS_ALONE, Program

_HERE = Path(__file__).parent
_QUIETLY = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


@dataclass(frozen=True, slots=True)
class BullMQ:
    name: str = "bullmq"
    version: str = "6.7.0"
    python: bool = False
    most: int = 1_000_000
    lacks: Mapping[str, str] = field(
        default_factory=lambda: OURS_ALONE | {"fairness": "its groups are in its paid edition"}
    )

    def prepare(self) -> Program:
        node = environments.tool("node", self.name)
        npm = environments.tool("npm", self.name)
        folder = environments.built(
            self.name,
            self.version,
            [_HERE / "package.json", _HERE / "package-lock.json"],
            # Not `npm ci`: it refuses a lock file that lacks an optional binary of some other platform. The versions
            # are the lock file's all the same.
            lambda at: environments.run([npm, "install", *_QUIETLY], at, self.name),
        )
        return Program((node, str(_HERE / "peer.js")), {"NODE_PATH": str(folder / "node_modules")})
