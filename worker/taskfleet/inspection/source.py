"""The port by which tasks are read. It stands alone, because handles need it where nothing is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from taskfleet.options import QueueOptions
from taskfleet.protocol.sealing import Seal

if TYPE_CHECKING:
    # A port needs no class when the program runs.
    from taskfleet.protocol.broker import Broker


class Source(Protocol):
    """The port to the queues, used anew at each call."""

    @property
    def broker(self) -> Broker: ...

    @property
    def seal(self) -> Seal: ...

    def known_options_of(self, name: str) -> QueueOptions:
        """The options of a queue, as far as this program knows them."""
        ...

    def max_retries_of(self, task: str) -> int | None:
        """The option of a task; `None` for a task that this program does not know."""
        ...
