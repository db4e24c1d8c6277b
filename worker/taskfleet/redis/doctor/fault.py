"""A broken invariant, as it was seen in one call."""

from __future__ import annotations

from dataclasses import dataclass

from taskfleet.protocol.partitions import Partition


@dataclass(frozen=True, slots=True)
class Fault:
    """`member` of the structure `part` breaks the invariant `code`; `evidence` is a short text about it.

    `detail` is what its repair is told beside the member: positions of a blocked task, or a stamp and a number.
    """

    code: str
    partition: Partition
    part: str
    member: bytes
    evidence: str = ""
    detail: bytes = b""
