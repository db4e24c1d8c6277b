"""The description of a queue that the bench measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from bench import environments

Role = Literal["producer", "worker"]

CHECKOUT = Path(__file__).parent.parent
"""The folder in which the program of a Python peer finds `bench.protocol`."""

GROWING = ("waiting", "delayed", "members", "fair", "limit", "workers", "queues", "cluster_3", "cluster_6")
"""What the curves are drawn against: each is a scenario `grow_…`."""

# Scenarios that most peers leave out, and why.
OURS_ALONE: dict[str, str] = {
    "ceiling": "it compares Taskfleet with its bare Redis pattern",
    "hop": "it is a bare list of Redis, without any queue",
    "fairness": "it has no fairness keys",
    "holding": "it asks how long each of our own calls holds Redis",
    "chaos": "it is our own crash suite",
    "footprint": "it asks what our own commands hold in memory",
    "features": "it asks what each of our own features costs",
    "pythons": "it compares interpreters under Taskfleet",
    **dict.fromkeys(
        [f"grow_{what}" for what in GROWING],
        "it asks how our own costs grow",
    ),
}
FASTEST_ONLY: dict[str, str] = {
    "kill9": "its recovery takes minutes, or is not promised",
    "million": "enqueueing a million would take minutes",
}


@dataclass(frozen=True, slots=True)
class Program:
    """How a peer's program is started; the role follows as the last argument, REDIS_URL is in its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """A queue under measurement. Its program speaks JSON lines, see bench/README.md."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def python(self) -> bool:
        """Whether it is one of the Python queues, the best of which a target is set against."""
        ...

    @property
    def most(self) -> int:
        """The most tasks of one run: a slow peer gets fewer, since a rate does not need more."""
        ...

    @property
    def lacks(self) -> Mapping[str, str]:
        """Scenario → why the peer does not take part."""
        ...

    def prepare(self) -> Program:
        """Build the missing parts. Errors: `PeerUnavailable`, one line that names the missing tool."""
        ...


@dataclass(frozen=True, slots=True)
class PythonPeer:
    """A Python queue in a virtual environment of its own: `peers/NAME/peer.py` and `peers/NAME/requirements.txt`."""

    name: str
    version: str
    most: int
    lacks: Mapping[str, str]
    python: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> Program:
        folder = Path(__file__).parent / "peers" / self.name
        python = environments.python_environment(self.name, self.version, folder / "requirements.txt")
        return Program((str(python), str(folder / "peer.py")), {"PYTHONPATH": str(CHECKOUT), **self.environment})
