"""Read access to single tasks and pages of them, in memory: lua/inspect.lua and lua/places.lua in Python."""

from __future__ import annotations

import bisect
import math
from collections.abc import AsyncIterator, Sequence

from taskfleet.memory.model import QueueModel
from taskfleet.memory.sorted_set import SortedSet
from taskfleet.memory.store import MemoryStore
from taskfleet.protocol import attempt_errors
from taskfleet.protocol.introductions import RUNS_FIELD, Run, read_runs
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.status import DEAD, ENDED
from taskfleet.protocol.task_record import Inspection, Place, Structure, TaskRecord

_HEAD = 300  # bytes of a payload that is too large
_MOST_LOOKED_AT = 1000


class InMemoryViews:
    """What is known of single tasks. No call changes anything."""

    store: MemoryStore

    async def inspect(self, partition: Partition, ids: Sequence[str], *, most_bytes: int, line: int = 0) -> Inspection:
        """The records of tasks. Of a payload of more than `most_bytes`, only the first bytes are given."""
        with self.store.queue(partition) as model:
            now = self.store.now()
            records = [_record(model, now, task_id, most_bytes, line) for task_id in ids]
            filled = model.filled_ms if model.tokens is not None else 0
            return Inspection(now, model.paused, len(model.leases), model.tokens, filled, records)

    async def places(
        self, partition: Partition, structure: Structure, after: Place | None, *, limit: int
    ) -> list[Place]:
        """The next members of a structure, in its order."""
        with self.store.queue(partition) as model:
            if structure == "ready":
                return _places_in_line(model, after, limit)
            entries = _entries(model, structure)
        first = bisect.bisect_right(entries, (after.position, after.member)) if after is not None else 0
        return [Place(score, member) for score, member in entries[first : first + limit]]

    async def last_letters(self, partition: Partition, *, limit: int) -> list[Place]:
        """The dead letters that died last, the latest last."""
        with self.store.queue(partition) as model:
            return [Place(score, member) for score, member in _entries(model, "dead")[-limit:]]

    async def results(self, partition: Partition, cursor: int) -> tuple[list[str], int]:
        """(ids that have a stored result, the next cursor)."""
        with self.store.queue(partition) as model:
            model.now = self.store.now()
            return [task_id for task_id in model.results if model.result_of(task_id) is not None], 0

    async def dead_letters(self, queue: str, *, offset: int = 0, limit: int = 100) -> AsyncIterator[tuple[str, bytes]]:
        """(id, packed dead letter), the oldest first in each partition."""
        found: list[tuple[str, bytes]] = []
        for name in self.store.partitions_of(queue):
            with self.store.queue(name) as model:
                found += [(task_id, model.letters[task_id].packed()) for task_id in model.dead]
        for letter in found[offset : offset + limit]:
            yield letter

    async def waited_for(self, partition: Partition, task_id: str, near: Sequence[str], *, most: int) -> list[str]:
        """The tasks of this partition that `task_id` waits for."""
        with self.store.queue(partition) as model:
            return [other for other, tag in model.tags.items() if any(edge.id == task_id for edge in tag.edges)]

    async def introduced(self, names: Sequence[str]) -> dict[str, str]:
        """Who makes ids with these prefixes, or holds leases of these incarnations, as far as it is known."""
        with self.store.lock:
            return {name: self.store.introduced[name] for name in names if name in self.store.introduced}

    async def runs_of(self, worker_id: str) -> list[Run]:
        """The longer runs of a worker, as its last heartbeat tells them."""
        with self.store.lock:
            beat = self.store.workers.get(worker_id)
            return read_runs(beat.fields.get(RUNS_FIELD)) if beat is not None else []


def _record(model: QueueModel, now: int, task_id: str, most_bytes: int, line: int) -> TaskRecord:
    state, record = model.status(now, task_id, announce=False)
    blob = model.tasks.get(task_id, b"")
    size, record_size, kept_ms = len(blob), len(record), 0
    if state == DEAD and record_size > most_bytes:
        letter = model.letters[task_id]
        record = letter.with_blob(letter.blob[:_HEAD])
    elif state == ENDED:
        kept_ms = int(model.results[task_id][1] - now)
        record = record if record_size <= most_bytes else b""
    history, tag = model.history_of(task_id), model.tags.get(task_id)
    owner, delivery = model.owners.get(task_id, ("", history.delivery))
    limit, unique = (tag.limit, tag.unique) if tag is not None else (None, None)
    return TaskRecord(
        id=task_id,
        state=state,
        blob=blob if size <= most_bytes else blob[:_HEAD],
        size=size,
        attempt=history.attempt,
        delivery=delivery,
        crashes=history.crashes,
        since_ms=history.since_ms,
        owner=owner,
        lease_ms=int(model.leases.score(task_id) or 0),
        due_ms=int(model.delayed.score(task_id) or 0),
        unique=unique,
        limit=limit,
        fair=tag.fair if tag is not None else None,
        parked=limit is not None and task_id in model.parked.get(limit, ()),
        ahead=_ahead_of(model, task_id, line) if state == "ready" else -1,
        pending=model.gathering[task_id].pending if state == "blocked" else 0,
        holder=model.unique.get(unique, "") if unique is not None else "",
        cancelling=task_id in model.cancelling,
        record=record,
        record_size=record_size,
        progress=model.reports.get(task_id, b""),
        errors=attempt_errors.pack(errors) if (errors := model.errors.get(task_id)) else b"",
        key_runs=model.slots.get(limit, 0) if limit is not None else 0,
        key_at_ms=int(model.retry_at.score(limit) or 0) if limit is not None else 0,
        kept_ms=kept_ms,
    )


def _ahead_of(model: QueueModel, task_id: str, line: int) -> int:
    """The number of tasks before a ready one; -1 when it is further behind than the number of places looked at."""
    removed = model.counts["removed"]
    turn = model.fair.score(task_id)
    if turn is not None:
        return max(0, len(model.ready) - removed) + sum(score < turn for _, score in model.fair.items())
    for at, (other, _) in enumerate(zip(model.ready, range(min(line, _MOST_LOOKED_AT)), strict=False)):
        if other == task_id:
            return at - (sum(each not in model.tasks for each in list(model.ready)[:at]) if removed > 0 else 0)
    return -1


def _places_in_line(model: QueueModel, after: Place | None, limit: int) -> list[Place]:
    ready, first = list(model.ready), 0
    if after is not None:
        last = after.id
        before = [at for at, task_id in enumerate(ready[: int(after.position) + 1]) if task_id == last]
        first = before[-1] + 1 if before else 0
    return [Place(float(at), ready[at].encode()) for at in range(first, min(len(ready), first + limit))]


def _entries(model: QueueModel, structure: Structure) -> list[tuple[float, bytes]]:
    """(score, member) of a sorted set, in order."""
    if structure == "parked":
        # The numbers of their positions are in the order of the ids here, and what the numbers are does not matter.
        return sorted(
            (0.0, f"{key}\0{number:016}\0{task_id}".encode())
            for key, ids in model.parked.items()
            for number, task_id in enumerate(ids)
        )
    sets: dict[Structure, SortedSet] = {
        "fair": model.fair, "delayed": model.delayed, "blocked": model.blocked, "lease": model.leases,
        "dead": model.dead,
    }  # fmt: skip
    return [(score if score < math.inf else math.inf, member.encode()) for member, score in sets[structure].items()]
