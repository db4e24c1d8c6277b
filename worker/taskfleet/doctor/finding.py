"""A finding: something that is wrong, in words for its user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from taskfleet.redis.doctor.fault import Fault

Severity = Literal["error", "warning"]

UNSET_TICK: Final = "tick-unset"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`severity` is error for a broken invariant, and warning for what may be meant.

    `queue` is the queue or its partition, "" for all; `subject` is the id, key or name that it is about. `repair` says
    what `--repair` does, or what its user can do when it has no `fault`.
    """

    code: str
    severity: Severity
    queue: str
    subject: str
    what: str
    repair: str
    fault: Fault | None = None

    @property
    def is_mendable(self) -> bool:
        return self.fault is not None

    def record(self) -> dict[str, Any]:
        """The finding as JSON."""
        return {
            "code": self.code, "severity": self.severity, "queue": self.queue or None, "subject": self.subject,
            "what": self.what, "repair": self.repair, "repairable": self.is_mendable,
        }  # fmt: skip
