"""rust-task-queue, on Rust."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import environments
from bench.errors import PeerUnavailable
from bench.peer import FASTEST_ONLY, OURS_ALONE, Program

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class RustTaskQueue:
    name: str = "rust-task-queue"
    version: str = "0.1.5"
    python: bool = False
    most: int = 5_000
    lacks: Mapping[str, str] = field(
        default_factory=lambda: (
            OURS_ALONE
            | FASTEST_ONLY
            | {
                "sleep": "a full worker sends what it has claimed back to the queue, again and again",
                "delayed": "its scheduler moves 100 tasks a second",
                "result": "nobody can wait for its results",
            }
        )
    )

    def prepare(self) -> Program:
        cargo = environments.tool("cargo", self.name)

        def make(at: Path) -> None:
            environments.run([cargo, "generate-lockfile"], at, self.name)
            lock = at / "Cargo.lock"
            lock.write_text(with_sources((at / "Cargo.pins").read_text(), lock.read_text()))
            build = [cargo, "build", "--release", "--locked", "--quiet", "--target-dir", "target"]
            environments.run(build, at, self.name)
            shutil.move(at / "target" / "release" / "peer", at / "peer")
            shutil.rmtree(at / "target")

        inputs = [_HERE / "Cargo.toml", _HERE / "Cargo.pins", _HERE / "main.rs"]
        return Program((str(environments.built(self.name, self.version, inputs, make) / "peer"),))


def with_sources(pins: str, lock: str) -> str:
    """The lock file of `pins`, its packages from where those of `lock`, which cargo has just made, come from.

    Packages with a checksum come from a registry; the package of the peer has none.
    """
    source = next((line for line in lock.splitlines() if line.startswith("source = ")), None)
    if source is None:
        raise PeerUnavailable("rust-task-queue cannot be built: cargo's lock file names no source of packages")
    return "".join(
        f"{source}\n{line}\n" if line.startswith("checksum = ") else f"{line}\n" for line in pins.splitlines()
    )
