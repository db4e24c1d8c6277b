"""The port through which a worker uses a `TaskQueue`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from taskfleet.application import Application
from taskfleet.session import Sessions


class WorkerQueue(Protocol):
    """An application whose tasks are run, and its connections. `TaskQueue` is one."""

    @property
    def application(self) -> Application: ...

    @property
    def sessions(self) -> Sessions: ...


@dataclass(frozen=True, slots=True)
class WorkerSource:
    """The port without a `TaskQueue`, for a part that starts workers and must not hold the queue that holds it."""

    application: Application
    sessions: Sessions
