"""What a scheduler asks for all the time: the due schedules. schedules.py has what it does when there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from taskfleet.protocol.partitions import Partition

if TYPE_CHECKING:
    from taskfleet.protocol.schedules import Entry

NO_STATE = b""  # of a schedule that has had no tick


class TickPosition(NamedTuple):
    """A position in the order of ticks: the number of schedules up to it, and the name of the last of these."""

    looked_at: int
    name: bytes


START = TickPosition(0, b"")


@dataclass(frozen=True, slots=True)
class Due:
    """The due schedules of one queue at `now_ms`. `later_ms` is its first later tick; `more` means that some are left.

    `reached` is the position of the last examined schedule, from which to continue.
    """

    partition: Partition
    now_ms: int
    later_ms: int | None
    entries: tuple[Entry, ...]
    more: bool
    reached: TickPosition
