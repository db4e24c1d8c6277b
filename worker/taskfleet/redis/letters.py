"""Dead letters from the latest to the oldest, and some of them discarded or brought back.

The calls of scripts are imported by the methods that make them: a worker makes none of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskfleet.protocol import bounds
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.signalling import Signalling

if TYPE_CHECKING:
    from taskfleet.protocol.task_record import Place

_RESTORED_TOGETHER = 200


class Discarded(NamedTuple):
    """What became of some dead letters: `held` of them, with `held_bytes`, can be brought back."""

    deleted: int
    held: int
    held_bytes: int


class Letters(Signalling):
    """Operations on some dead letters of one partition."""

    async def letters_before(
        self, partition: Partition, before: Place | None, *, until_ms: float, since_ms: float, limit: int
    ) -> list[Place]:
        """The next dead letters after `before`, the latest first, that died before `until_ms` and not before
        `since_ms` (Unix ms; infinite for any). Letters that died in the same millisecond are in no certain order, and
        yet none is passed over.
        """
        from taskfleet.protocol.task_record import Place

        key = self.keys_of(partition).dead
        highest = _exclusive(until_ms) if before is None else _score(before.position)
        lowest, passed = _score(since_ms), 0
        while True:
            found = await self.patiently(
                lambda passed=passed: self.client.redis.zrange(
                    key, highest, lowest, desc=True, byscore=True, offset=passed, num=limit, withscores=True
                )
            )
            places = [Place(float(score), member) for member, score in found]
            if before is not None:
                # In the order of Redis, members of one score go down, too.
                same = before.position
                kept = [each for each in places if each.position < same or each.member < before.member]
            else:
                kept = places
            if kept or len(places) < limit:
                return kept
            passed += len(places)

    async def discard_letters(
        self, partition: Partition, ids: Sequence[str], *, job: str, hold_ms: int, room: int, room_bytes: int
    ) -> Discarded:
        """Delete these dead letters, and hold them for `restore_letters` so long, as far as there is room."""
        from taskfleet.redis.calls import letters

        deleted = held = held_bytes = 0
        for start, end, _ in bounds.windows(ids, len):
            rest = list(ids[start:end])
            while rest:
                call = letters.discard(
                    self.keys_of(partition), job, rest, hold_ms=hold_ms, room=room - held,
                    room_bytes=room_bytes - held_bytes,
                )  # fmt: skip
                reply = await self.call(call)
                deleted, held, held_bytes = (
                    deleted + reply.deleted,
                    held + reply.held,
                    held_bytes + reply.held_bytes,
                )
                rest = rest[reply.looked_at :]
                if reply.jobs:
                    await self.relay(partition)
        return Discarded(deleted, held, held_bytes)

    async def held_letters(self, partition: Partition, job: str) -> int:
        """The number of letters that `restore_letters` would find."""
        key = self.keys_of(partition).held(job)
        return int(await self.patiently(lambda: self.client.redis.llen(key)))

    async def restore_letters(self, partition: Partition, job: str) -> int:
        """Bring the held letters of a job back; returns their number."""
        from taskfleet.redis.calls import letters

        restored = 0
        while True:
            reply = await self.call(letters.restore(self.keys_of(partition), job, most=_RESTORED_TOGETHER))
            restored += reply.restored
            if not reply.left or not reply.taken:
                return restored


def _score(ms: float) -> str:
    return "-inf" if ms == -math.inf else "+inf" if ms == math.inf else repr(float(ms))


def _exclusive(ms: float) -> str:
    return "+inf" if ms == math.inf else f"({ms!r}"
