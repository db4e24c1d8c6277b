"""What the bench needs to know of a queue it measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

Role = Literal["producer", "worker"]


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
    def lacks(self) -> Mapping[str, str]:
        """Scenario → why the peer cannot take part."""
        ...

    def prepare(self) -> Program:
        """Build what is not built yet. Errors: `PeerUnavailable`, one line that says what is missing."""
        ...
