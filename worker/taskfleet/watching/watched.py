"""The fleet that is watched: the part of a `TaskQueue` that a reading uses."""

from __future__ import annotations

from typing import Protocol

from taskfleet.application import Application
from taskfleet.inspection.source import Source
from taskfleet.protocol.broker import Broker


class WatchedFleet(Protocol):
    """A `TaskQueue` is one."""

    application: Application

    @property
    def broker(self) -> Broker:
        """The broker of the running loop."""
        ...

    @property
    def sessions(self) -> Source:
        """What single tasks are read from."""
        ...
