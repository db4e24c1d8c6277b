"""Read the end of a run: the ledgers of all processes, and everything that is left in Redis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskfleet.protocol.dead_letter import DeadLetter
from taskfleet.protocol.partitions import partition_name, queue_of, spread
from taskfleet.protocol.result_record import SUCCEEDED, unpack_end
from taskfleet.redis import keys
from taskfleet.travel.value import Value
from tests.chaos import ledger
from tests.chaos.fleet import RECONNECT_SECONDS
from tests.chaos.kinds import queues
from tests.chaos.stories import (
    BEAT_SECONDS,
    NOTED_SECONDS,
    STARVED,
    Death,
    EndRecord,
    Run,
    Story,
    Surroundings,
    Window,
    slot_of,
)
from tests.chaos.workload import KIND_OF_PART

_CHUNK = 1000
_PARTITIONS = {options["name"]: int(options.get("partitions", 1)) for options in queues()}
PARTITIONS = [partition_name(name, i) for name, count in _PARTITIONS.items() for i in range(count)]
# Keys without a time to live that may be left after a drain, and their owners.
OWNED = {
    "queues": "the names of all queues",
    "stat": "the counters of a queue",
    "control": "whether a queue is paused, the tokens of its rate limit, a counter of its parked tasks",
    "dead": "the dead letters of a queue: by age and number",
    "letter": "the dead letters of a queue: by age and number",
}


def read_ledgers(folder: Path, lease: float) -> tuple[dict[str, Story], Surroundings, list[str], Counter[str]]:
    """(stories by id, their surroundings, defects that the ledgers show, hits of the proxy by kind)."""
    stories: dict[str, Story] = {}
    defects: list[str] = []
    for path in sorted(folder.glob("producer-*.ledger")):
        _read_producer(path, stories)
    windows: list[Window] = []
    died: dict[str, Death] = {}
    draining: dict[str, float] = {}
    for verb, at, *rest in ledger.read(next(folder.glob("faults.*.ledger"))):
        match verb:
            case "died":
                died[rest[0]] = Death(rest[2], at, rest[1])
            case "draining":
                draining[rest[0]] = at
            case "fault" if rest[4]:
                windows.append(Window(rest[4], at, rest[0], rest[1]))
            case _:
                pass
    hits: Counter[str] = Counter()
    for verb, at, what, client, *rest in ledger.read(next(folder.glob("proxy.*.ledger"))):
        if verb == "hit":
            hits[what] += 1
        windows.append(Window(client, at, rest[0] if verb == "stall" else at + RECONNECT_SECONDS, what))
    for path in sorted(folder.glob("worker-*.ledger")):
        windows += _read_worker(path, stories, defects, died.get(path.stem))
    return stories, Surroundings(lease=lease, windows=windows, died=died, draining=draining), defects, hits


# The results of the handlers, decoded.
_RETURNED = Value(list[int], "result")


def _read_producer(path: Path, stories: dict[str, Story]) -> None:
    for verb, at, *rest in ledger.read(path):
        match verb:
            case "sent":
                task_id, n, kind, queue = rest
                story = Story(task_id, n, kind, spread(queue, _PARTITIONS[queue], task_id), at, "unknown")
                story.cancelled_by_others = KIND_OF_PART[kind].cancelled_by_others
                stories[task_id] = story
            case "accepted" | "refused" | "merged":
                for task_id in rest[0]:
                    stories[task_id].answer = verb
            case "cancel":
                stories[rest[0]].cancels.append(at)
            case "waited":
                stories[rest[0]].waits.append((rest[1], rest[2]))
            case _:
                pass


def _read_worker(path: Path, stories: dict[str, Story], defects: list[str], death: Death | None) -> list[Window]:
    process = path.stem
    awake: float | None = None
    windows: list[Window] = []
    open_runs: dict[tuple[str, int], Run] = {}
    for verb, at, *rest in ledger.read(path):
        if verb == "begin":
            task_id, _, attempt, delivery = rest
            story = stories.get(task_id)
            if story is None:
                defects.append(f"{process} ran task {task_id}, which was never sent")
                continue
            run = Run(process, attempt, delivery, at)
            open_runs[task_id, delivery] = run
            story.executions.append(run)
        elif verb == "end":
            run_ended = open_runs.pop((rest[0], rest[1]), None)
            if run_ended is not None:
                run_ended.ended, run_ended.how = at, rest[2]
        elif verb == "starved":
            windows.append(Window(slot_of(process), at, rest[0], STARVED))
        elif verb == "awake":
            awake = at
    if death is not None and awake is not None and death.alive - awake > BEAT_SECONDS + NOTED_SECONDS:
        windows.append(Window(slot_of(process), awake, death.alive, STARVED))  # it never woke to say so
    return windows


@dataclass(slots=True)
class Remains:
    """Keys and counters left in Redis. `orphans` are keys without an owner or a time to live, each with the reason."""

    orphans: list[str] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    keys: int = 0
    strangers: list[str] = field(default_factory=list)


async def read_outcomes(redis: Any, prefix: str, stories: dict[str, Story]) -> None:
    """Look up how every task ended."""
    by_queue: dict[str, list[Story]] = defaultdict(list)
    for story in stories.values():
        by_queue[story.queue].append(story)
    for queue, members in by_queue.items():
        names = keys.of_partition(prefix, queue)
        letters = {k.decode(): v for k, v in (await redis.hgetall(names.letter)).items()}
        held = {k.decode() for k in await redis.hkeys(names.task)}
        for start in range(0, len(members), _CHUNK):
            chunk = members[start : start + _CHUNK]
            records = await redis.mget([names.result(story.id) for story in chunk])
            for story, record in zip(chunk, records, strict=True):
                found = _found(story, record, letters.get(story.id), held=story.id in held)
                story.outcome = found[0] if found else EndRecord("gone")
                if len(found) > 1:
                    story.outcome = EndRecord("several", value=[outcome.state for outcome in found])


def _found(story: Story, record: bytes | None, letter: bytes | None, *, held: bool) -> list[EndRecord]:
    found: list[EndRecord] = []
    if letter is not None:
        dead = DeadLetter.of_packed(story.id, letter, queue=queue_of(story.queue))
        found.append(
            EndRecord(
                dead.state, reason=dead.reason, attempts=dead.attempts, deliveries=dead.deliveries, letter=True,
                value=dead.error,
            )
        )  # fmt: skip
    if record is not None:
        state, value = unpack_end(record, queue=queue_of(story.queue), task_id=story.id)
        found.append(EndRecord(state, _RETURNED.load(value) if state == SUCCEEDED else value))
    if held:
        found.append(EndRecord("stuck"))
    return found


async def read_remains(redis: Any, prefix: str, queues: Iterable[str], ids: set[str]) -> Remains:
    """List every key of the database, and find those that should not be left."""
    remains = Remains()
    results = {keys.of_partition(prefix, queue).result("") for queue in queues}
    batch: list[str] = []

    async def inspect() -> None:
        pipeline = redis.pipeline(transaction=False)
        for key in batch:
            pipeline.pttl(key)
        for key, ttl in zip(batch, await pipeline.execute(), strict=True):
            remains.keys += 1
            part = key.rpartition(":")[2]
            if ttl == -1 and not (key.startswith(f"{prefix}:") and part in OWNED):
                remains.orphans.append(f"{key}: neither an owner nor a time to live")
            head = key[: len(key) - len(part)]
            if head in results and part not in ids:
                remains.strangers.append(f"{key}: the result of a task that was never sent")
        batch.clear()

    async for key in redis.scan_iter(count=_CHUNK):
        batch.append(key.decode())
        if len(batch) >= _CHUNK:
            await inspect()
    if batch:
        await inspect()
    for queue in queues:
        counters = await redis.hgetall(keys.of_partition(prefix, queue).stat)
        remains.counters[queue] = {name.decode(): int(value) for name, value in counters.items()}
    return remains
