"""`taskfleet doctor` finds each invariant that is broken on purpose, repairs it, and the tasks run to their ends."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest

from taskfleet import QueueOptions, Retry, TaskQueue, chain
from taskfleet.doctor import checkup
from taskfleet.doctor.catalogue import CATALOGUE
from taskfleet.doctor.finding import Diagnosis
from taskfleet.protocol import dead_record
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.keys import QueueKeys
from tests.engine.conftest import MakeQueue, RunWorker, until

# Tests break Redis on purpose; what the doctor leaves is checked by its second run, and by `no_orphans`.
DEFAULT = Partition("default")
OPTIONS = [QueueOptions("default", lease_seconds=60, concurrency_per_key=1)]


@dataclass
class Patient:
    """A queue whose invariants a test breaks. `due` are the tasks that must have run in the end."""

    queue: TaskQueue
    broker: RedisBroker
    redis: Any
    keys: QueueKeys
    note: Any
    ran: list[int]
    due: set[int] = field(default_factory=set[int])

    async def waiting(self, n: int, **options: Any) -> str:
        """A task that waits; it must run in the end."""
        handle = await self.note.options(**options).enqueue(n)
        self.due.add(n)
        return str(handle.id)

    async def running(self, n: int, **options: Any) -> str:
        """A task that a worker has claimed which is gone."""
        task_id = await self.waiting(n, **options)
        reply = await self.broker.step(DEFAULT, OPTIONS[0], "gone", 1, [])
        assert [claim[1] for claim in reply.claims] == [task_id]
        return task_id

    async def dead(self, n: int) -> str:
        task_id = await self.running(n)
        self.due.discard(n)
        failure = dead_record.pack_failure("exception", "ValueError: no", "")
        await self.broker.step(DEFAULT, OPTIONS[0], "gone", 0, [(task_id, 1, "f", 0, b"", 0, failure)])
        return task_id

    async def blocked(self, n: int) -> tuple[str, str]:
        """(first, second): a task that waits for another, which waits for its time."""
        handle = await self.queue.enqueue(chain(self.note.options(delay=600).message(n), self.note.message(n + 1)))
        first = (await self.redis.zrange(self.keys.delayed, 0, -1))[-1].decode()
        return first, handle.id

    async def end_leases(self) -> None:
        """Let the leases of the worker that is gone end now, but for those that never would."""
        for task_id, ends in await self.redis.zrange(self.keys.lease, 0, -1, withscores=True):
            if math.isfinite(ends):
                assert ends / 1000 < time.time() + OPTIONS[0].lease_seconds + 1, (
                    f"the lease of {task_id!r} ends too late"
                )
                await self.redis.zadd(self.keys.lease, {task_id: 1}, xx=True)

    async def look(self) -> list[Diagnosis]:
        found = await checkup.look(self.broker, ["default"])
        return found.errors


@pytest.fixture
async def patient(make_queue: MakeQueue) -> Patient:
    queue = make_queue(queues=OPTIONS)
    ran: list[int] = []

    @queue.task(max_retries=2, retry=Retry.fixed(0.05))
    async def note(*numbers: int) -> int:
        ran.append(numbers[-1])  # results of other tasks come first
        return numbers[-1]

    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    return Patient(queue, broker, broker.client.redis, broker.keys_of("default"), note, ran)


Break = Callable[[Patient], Awaitable[None]]
BREAKS: dict[str, Break] = {}


def breaks(code: str) -> Callable[[Break], Break]:
    def add(function: Break) -> Break:
        assert code not in BREAKS
        BREAKS[code] = function
        return function

    return add


@breaks("task-lost")
async def _(p: Patient) -> None:
    await p.waiting(1)
    task_id = await p.waiting(2)
    await p.waiting(3)
    assert await p.redis.lrem(p.keys.ready, 0, task_id) == 1


@breaks("task-twice")
async def _(p: Patient) -> None:
    await p.redis.rpush(p.keys.ready, await p.running(1))


@breaks("ready-twice")
async def _(p: Patient) -> None:
    await p.redis.rpush(p.keys.ready, await p.waiting(1))


@breaks("task-and-letter")
async def _(p: Patient) -> None:
    letter = await p.redis.hget(p.keys.letter, await p.dead(1))
    await p.broker.purge_dead("default")
    task_id = await p.waiting(2)
    await p.redis.hset(p.keys.letter, task_id, letter)
    await p.redis.zadd(p.keys.dead, {task_id: 1})


@breaks("lease-missing")
async def _(p: Patient) -> None:
    assert await p.redis.zrem(p.keys.lease, await p.running(1))


@breaks("lease-endless")
async def _(p: Patient) -> None:
    await p.redis.zadd(p.keys.lease, {await p.running(1): "inf"})


@breaks("lease-without-task")
async def _(p: Patient) -> None:
    task_id = await p.running(1)
    p.due.clear()
    await p.redis.hdel(p.keys.task, task_id)
    await p.redis.hdel(p.keys.owner, task_id)


@breaks("token-missing")
async def _(p: Patient) -> None:
    await p.redis.hdel(p.keys.owner, await p.running(1))


@breaks("token-without-task")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.hset(p.keys.owner, "unknown", "w:1")


@breaks("token-left")
async def _(p: Patient) -> None:
    task_id = await p.waiting(1, delay=0.5)
    await p.redis.hset(p.keys.owner, task_id, "w:1")


@breaks("history-broken")
async def _(p: Patient) -> None:
    await p.redis.hset(p.keys.meta, await p.waiting(1), "often")


@breaks("delayed-without-task")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.zadd(p.keys.delayed, {"unknown": 5})


@breaks("delayed-never")
async def _(p: Patient) -> None:
    await p.redis.zadd(p.keys.delayed, {await p.waiting(1, delay=60): "inf"})


@breaks("turn-without-task")
async def _(p: Patient) -> None:
    await p.waiting(1, fair_key="a")
    await p.redis.zadd(p.keys.fair, {"unknown": 5})


@breaks("turns-left")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.zadd(p.keys.turns, {"a": 5})


async def parked(p: Patient, *numbers: int) -> list[str]:
    """Tasks of one limit key: the first runs in a worker that is gone, the others are parked."""
    ids = [await p.waiting(n, limit_key="k") for n in numbers]
    await p.broker.step(DEFAULT, OPTIONS[0], "gone", 5, [])
    assert await p.redis.zcard(p.keys.parked) == len(numbers) - 1
    return ids


@breaks("parked-without-task")
async def _(p: Patient) -> None:
    _, second, _ = await parked(p, 1, 2, 3)
    p.due.discard(2)
    await p.redis.hdel(p.keys.task, second)
    await p.redis.hdel(p.keys.tag, second)


@breaks("parked-unknown")
async def _(p: Patient) -> None:
    _, second, _ = await parked(p, 1, 2, 3)
    await p.redis.hdel(p.keys.tag, second)


@breaks("parked-forever")
async def _(p: Patient) -> None:
    first, *_ = await parked(p, 1, 2, 3)
    p.due.discard(1)
    for name in (p.keys.task, p.keys.owner, p.keys.tag):
        await p.redis.hdel(name, first)
    await p.redis.zrem(p.keys.lease, first)
    await p.redis.delete(p.keys.slots)


@breaks("slots-count")
async def _(p: Patient) -> None:
    await parked(p, 1, 2, 3)
    await p.redis.hset(p.keys.slots, "k", 5)
    await p.redis.hset(p.keys.slots, "other", 1)


@breaks("blocked-without-task")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.zadd(p.keys.blocked, {"unknown": "inf"})


@breaks("blocked-unlisted")
async def _(p: Patient) -> None:
    first, second = await p.blocked(1)
    p.due |= {1, 2}
    await p.redis.zrem(p.keys.blocked, second)
    await p.redis.zadd(p.keys.delayed, {first: 1})


@breaks("gather-missing")
async def _(p: Patient) -> None:
    first, second = await p.blocked(1)
    await p.redis.hdel(p.keys.gather, second)
    await p.redis.zadd(p.keys.delayed, {first: 1})
    p.due.add(1)


@breaks("gather-left")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.hset(p.keys.gather, "unknown:0", "x")


@breaks("gather-count")
async def _(p: Patient) -> None:
    first, second = await p.blocked(1)
    p.due |= {1, 2}
    await p.redis.hset(p.keys.gather, second, "2:1:1:0")
    await p.redis.zadd(p.keys.delayed, {first: 1})


@breaks("waits-for-nothing")
async def _(p: Patient) -> None:
    before = await p.note.options(delay=600).enqueue(1)
    await p.note.options(after=[before]).enqueue(2)
    p.due.add(2)
    await p.redis.hdel(p.keys.task, before.id)
    await p.redis.hdel(p.keys.tag, before.id)
    await p.redis.zrem(p.keys.delayed, before.id)


@breaks("edges-left")
async def _(p: Patient) -> None:
    await p.redis.hset(p.keys.edges, "unknown:0", msgpack.packb([]))


@breaks("input-left")
async def _(p: Patient) -> None:
    await p.redis.hset(p.keys.input, "unknown", msgpack.packb([]))


@breaks("unique-dead")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.hset(p.keys.unique, "key", "unknown")


@breaks("follower-dead")
async def _(p: Patient) -> None:
    await p.waiting(1, unique_key="key")
    await p.redis.hset(p.keys.unique, "key\0", "unknown")


@breaks("unique-lost")
async def _(p: Patient) -> None:
    await p.waiting(1, unique_key="key", delay=0.1)
    await p.redis.delete(p.keys.unique)


def left(part: str) -> Break:
    async def break_it(p: Patient) -> None:
        await p.waiting(1)
        await p.redis.hset(getattr(p.keys, part), "unknown", "1:1:0:0" if part == "meta" else b"\x80")

    return break_it


for each in ("tag", "meta", "progress", "errors", "cancel"):
    BREAKS[f"{each}-left"] = left(each)


@breaks("tag-broken")
async def _(p: Patient) -> None:
    await p.redis.hset(p.keys.tag, await p.waiting(1, limit_key="a", unique_key="u"), "\xff{")


@breaks("await-left")
async def _(p: Patient) -> None:
    await p.redis.sadd(p.keys.awaited, "unknown")


@breaks("letter-unlisted")
async def _(p: Patient) -> None:
    await p.redis.zrem(p.keys.dead, await p.dead(1))


@breaks("letter-missing")
async def _(p: Patient) -> None:
    await p.redis.hdel(p.keys.letter, await p.dead(1))


async def schedule(p: Patient) -> None:
    await p.queue.add_schedule(name="nightly", task="note", args=[7], schedule="0 3 * * *")


@breaks("tick-unset")
async def _(p: Patient) -> None:
    await schedule(p)
    await p.redis.delete(p.keys.schedules.ticks)


@breaks("tick-broken")
async def _(p: Patient) -> None:
    await schedule(p)
    await p.redis.zadd(p.keys.schedules.ticks, {"nightly": "inf"})


@breaks("tick-without-schedule")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.zadd(p.keys.schedules.ticks, {"nightly": 5})


@breaks("ticked-left")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.hset(p.keys.schedules.ticked, "nightly", msgpack.packb([0, "", 0, 0, 0]))


@breaks("removed-count")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.hset(p.keys.stat, "removed", 12)


@breaks("counter-broken")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.hset(p.keys.stat, "finished", "many")


@breaks("key-expires")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.expire(p.keys.task, 3600)
    await p.redis.expire(p.broker.fleet.queues, 3600)


@breaks("key-stays")
async def _(p: Patient) -> None:
    await p.redis.set(p.keys.result("unknown"), "x")
    await p.redis.set(p.broker.fleet.cordon("unknown"), "1")


@breaks("queue-unlisted")
async def _(p: Patient) -> None:
    await p.waiting(1)
    await p.redis.delete(p.broker.fleet.queues)


@breaks("queue-name-invalid")
async def _(p: Patient) -> None:
    await p.redis.sadd(p.broker.fleet.queues, "no/name/of a queue")


TOLD_ONLY = {code for code, entry in CATALOGUE.items() if not entry.mends}


async def test_a_task_that_waits_for_its_next_attempt_is_no_finding(patient: Patient, run_worker: RunWorker) -> None:
    @patient.queue.task(max_retries=1, retry=Retry.fixed(600))
    async def fail() -> None:
        raise ValueError("the first attempt fails")

    handle = await fail.enqueue()
    await run_worker(patient.queue)

    async def retrying() -> bool:
        return await handle.status() == "retrying"

    await until(retrying, "the first attempt has failed")
    assert await patient.redis.pttl(patient.keys.errors) > 0, "errors that nothing removes end"
    assert await patient.look() == []


def test_every_code_that_can_be_repaired_is_broken_here() -> None:
    assert BREAKS.keys() == CATALOGUE.keys() - TOLD_ONLY


@pytest.mark.parametrize("code", BREAKS)
async def test_a_broken_invariant_is_found_and_repaired_and_the_tasks_run(
    patient: Patient, run_worker: RunWorker, code: str
) -> None:
    await patient.waiting(100)
    assert await patient.look() == []
    await patient.broker.step(DEFAULT, OPTIONS[0], "before", 0, [])
    claims = (await patient.broker.step(DEFAULT, OPTIONS[0], "before", 1, [])).claims
    await patient.broker.step(DEFAULT, OPTIONS[0], "before", 0, [(claims[0][1], 1, "s", 0, b"", 0, 0)])
    patient.due.clear()
    await BREAKS[code](patient)
    found = await patient.look()
    assert code in {finding.code for finding in found}
    for _ in range(3):
        outcomes = {outcome async for _, outcome in checkup.repair(patient.broker, found)}
        assert outcomes <= {"repaired", "gone"}
        found = await patient.look()
        if not found:
            break
    assert found == [], "a second run is clean"
    await patient.end_leases()
    await run_worker(patient.queue)

    async def all_ran() -> bool:
        return patient.due <= set(patient.ran)

    await until(all_ran, f"{patient.due} run", seconds=60)

    async def idle() -> bool:
        stats = await patient.queue.queue_stats("default")
        return stats.in_flight == 0 and stats.ready == 0

    await until(idle, "all have ended")
    # The tasks that are due in ten minutes were not to run.
    await patient.broker.purge("default")
    await patient.broker.purge_dead("default")
    assert await patient.look() == []
