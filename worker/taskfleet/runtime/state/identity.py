"""The names of a worker."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass

from taskfleet import checks


@dataclass(frozen=True, slots=True)
class Identity:
    """`name` is unique in the fleet; `worker_id` also distinguishes the processes of one name.

    `incarnation` is the first half of the fencing token: a restart of the same worker is another owner.
    """

    name: str
    worker_id: str
    incarnation: str

    @classmethod
    def of(cls, name: str | None, number: int) -> Identity:
        """The identity of process `number`; the default name is `TASKFLEET_WORKER_NAME`, or one of host and process."""
        if name is None:
            name = os.environ.get("TASKFLEET_WORKER_NAME") or _unique_name()
        name = checks.text("name", name)
        return cls(name, f"{name}/{checks.whole('number', number)}", secrets.token_urlsafe(6))


def _unique_name() -> str:
    # Containers may share a host name and have process id 1 each, and a process may have several workers.
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
