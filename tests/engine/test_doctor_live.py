"""The doctor on a queue at work: no false finding, no task lost, and a repair that workers do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from taskfleet import QueueOptions, Retry, TaskQueue, chain, chord, group
from taskfleet.child_process import ends_with_this_process
from taskfleet.doctor import checkup
from taskfleet.doctor.finding import Diagnosis
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue, RunWorker, until

TASKS = 20_000
LOOKS, KILLS, REPAIRS = 20, 5, 20  # at least, while repairs are tried
OPTIONS = QueueOptions("default", lease_seconds=3, max_deliveries=1000, concurrency_per_key=3, partitions=2)
_ROUND = 100  # tasks that are sent together, of all kinds


class Load:
    """Tasks of all kinds; each appends its number when it has done its work."""

    def __init__(self, queue: TaskQueue) -> None:
        self.queue = queue
        self.done: set[int] = set()
        self.sent = 0
        tries: dict[int, int] = {}

        @queue.task(max_retries=3, retry=Retry.fixed(0.02), result_ttl=60)
        async def work(*args: Any) -> int:
            n: int = args[-1]  # results of other tasks come first
            if n % 7 == 0 and not tries.get(n):
                tries[n] = 1
                raise ValueError("the first attempt fails")
            self.done.add(n)
            return n

        self.work = work

    def number(self) -> int:
        self.sent += 1
        return self.sent

    async def send_round(self) -> None:
        work, queue, n = self.work, self.queue, self.number
        await queue.enqueue_many([work.message(n()) for _ in range(_ROUND - 40)])
        for _ in range(4):
            await work.options(delay=0.05).enqueue(n())
            await work.options(limit_key=f"k{self.sent % 3}").enqueue(n())
            await work.options(fair_key=f"f{self.sent % 4}").enqueue(n())
            await work.options(unique_key=f"u{self.sent}").enqueue(n())
        first = await work.enqueue(n())
        await work.options(after=[first]).enqueue(n())
        await queue.enqueue(chain(work.message(n()), work.message(n()), work.message(n())))
        await queue.enqueue(group(*(work.message(n()) for _ in range(6))))
        members = [work.message(n()) for _ in range(9)]
        await queue.enqueue(chord(members, work.message(n())))
        cancelled = await work.options(delay=600).enqueue(0)
        await cancelled.cancel()
        while self.sent % _ROUND:
            await work.enqueue(n())


@pytest.mark.timeout(900)
async def test_twenty_thousand_tasks_of_all_kinds_flow_and_nothing_is_found(
    make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(queues=[OPTIONS], slots=50)
    load = Load(queue)
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    workers = [await run_worker(queue) for _ in range(3)]
    found: list[Diagnosis] = []
    looks = 0
    over = asyncio.Event()

    async def doctor() -> None:
        nonlocal looks
        mine = broker.another()
        while not over.is_set():
            found.extend((await checkup.look(mine, ["default"])).errors)
            looks += 1
        await mine.close()

    async def crashes() -> None:
        """Workers that claim tasks and are never heard of again."""
        number = 0
        while not over.is_set():
            for partition in await broker.partitions("default"):
                number += 1
                await broker.step(partition, OPTIONS, f"crashed-{number}", 3, [])
            await asyncio.wait([asyncio.ensure_future(over.wait())], timeout=0.5)

    beside = [asyncio.create_task(doctor()), asyncio.create_task(crashes())]
    while load.sent < TASKS:
        await load.send_round()

    async def all_done() -> bool:
        return len(load.done - {0}) == load.sent

    await until(lambda: looks >= 3, "the doctor has looked", seconds=600)
    await until(all_done, "all tasks have run", seconds=600)
    over.set()
    await asyncio.gather(*beside)
    assert found == []
    assert len(workers) == 3
    assert (await checkup.look(broker, ["default"])).errors == []


def start_worker() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "taskfleet", "worker", "tests.engine.app:queue"],
        stderr=subprocess.DEVNULL,
        preexec_fn=ends_with_this_process(),
    )


@pytest.mark.timeout(600)
async def test_repairs_beside_killed_workers_lose_nothing_and_run_nothing_twice(shared: TaskQueue) -> None:
    """Workers are killed, tasks are taken out of the line or of the leases by hand, and the doctor repairs in a loop.

    Every finding was caused by hand, each delivery starts once, and only a task that was taken over starts again.
    """
    broker = shared.broker
    assert isinstance(broker, RedisBroker)
    keys, redis = broker.keys_of("default"), broker.client.redis
    looker = broker.another()

    @shared.task
    async def note(n: int, seconds: float = 0.0) -> int:
        return n

    broken: set[str] = set()
    doubled: set[str] = set()  # what the saboteur has put in line twice may start twice, before any repair
    number_of: dict[str, int] = {}
    unexpected: list[Diagnosis] = []
    outcomes: Counter[str] = Counter()
    looks = sent = kills = 0
    over = asyncio.Event()

    async def pause(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), seconds)

    async def repair() -> None:
        found = (await checkup.look(looker, ["default"])).errors
        # The second place of a doubled task is taken off the count of cancelled ones that are still in line.
        by_hand = broken | ({"removed"} if doubled else set())
        unexpected.extend(finding for finding in found if finding.subject not in by_hand)
        outcomes.update([outcome async for _, outcome in checkup.repair(looker, found)])

    async def doctor() -> None:
        nonlocal looks
        while not over.is_set():
            await repair()
            looks += 1

    async def saboteur() -> None:
        """Take tasks out of the line, and duplicate some: another program's hand, in one step."""
        turn = 0
        while not over.is_set():
            turn += 1
            task_id = await redis.lindex(keys.ready, -1 - turn % 7)
            if task_id is not None:
                broken.add(task_id.decode())
                if turn % 3:
                    await redis.lrem(keys.ready, 1, task_id)
                else:
                    doubled.add(task_id.decode())
                    await redis.rpush(keys.ready, task_id)
            await pause(0.1)

    async def killer() -> None:
        nonlocal kills
        while not over.is_set():
            process = start_worker()
            try:
                for _ in range(500):
                    await pause(0.02)
                    busy = [info for info in await looker.workers() if info.pid == process.pid]
                    if busy or over.is_set():
                        break
                await pause(0.5)
            finally:
                process.kill()
                await asyncio.to_thread(process.wait, 60)
                kills += 1

    steady = start_worker()
    beside = [asyncio.create_task(each()) for each in (doctor, saboteur, killer)]
    try:

        async def rounds() -> bool:
            nonlocal sent
            assert not any(task.done() for task in beside), "all go on"
            if (await shared.queue_stats("default")).ready < 1000:
                handles = await shared.enqueue_many([note.message(n, 0.01) for n in range(sent, sent + 200)])
                number_of.update({handle.id: sent + n for n, handle in enumerate(handles)})
                sent += 200
            return looks >= LOOKS and kills >= KILLS and outcomes["repaired"] >= REPAIRS

        await until(rounds, "enough looks, kills and repairs", seconds=400)
        over.set()
        await asyncio.gather(*beside)
        await repair()

        async def all_ended() -> bool:
            stats = await shared.queue_stats("default")
            return stats.ready == stats.in_flight == 0

        await until(all_ended, "all tasks have ended", seconds=120)
        await repair()  # a doubled task may have left the line after the last one
    finally:
        over.set()
        await asyncio.wait(beside)
        steady.kill()
        steady.wait(60)
    ledger = [entry.decode() for entry in await redis.lrange(f"{broker.prefix}:ledger", 0, -1)]
    exempt = {number_of[task_id] for task_id in doubled}
    runs = Counter(int(entry.split(":")[0]) for entry in ledger)
    starts = Counter(entry for entry in ledger if int(entry.split(":")[0]) not in exempt)
    again = sum(starts.values()) - len({entry.split(":")[0] for entry in starts})
    taken_over = int(await redis.hget(keys.stat, "taken_over") or 0)
    print(f"{looks} looks, {kills} kills, {dict(outcomes)}, {sent} tasks, {again} runs again, {taken_over} taken over")
    assert unexpected == []
    assert set(runs) == set(range(sent)), "nothing is lost"
    assert [entry for entry, times in starts.items() if times > 1] == [], "no delivery starts twice"
    assert again <= taken_over, "only a task that was taken over starts again"
    assert taken_over > 0
    assert outcomes["stays"] == 0
    assert (await shared.queue_stats("default")).dead == 0
    assert (await checkup.look(looker, ["default"])).errors == []
    await looker.close()


async def test_a_killed_worker_leaves_nothing_to_find(shared: TaskQueue, run_worker: RunWorker) -> None:
    broker = shared.broker
    assert isinstance(broker, RedisBroker)
    process = start_worker()

    @shared.task
    async def note(n: int, seconds: float = 0.0) -> int:
        return n

    try:
        handles = await shared.enqueue_many([note.message(n, 600.0) for n in range(20)])

        async def claimed() -> bool:
            return (await shared.queue_stats("default")).in_flight > 0

        await until(claimed, "it has claimed", seconds=60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert (await checkup.look(broker, ["default"])).errors == []
    keys = broker.keys_of("default")
    for task_id in await broker.client.redis.zrange(keys.lease, 0, -1):
        await broker.client.redis.zadd(keys.lease, {task_id: 1}, xx=True)  # its leases end now
    await run_worker(shared)
    for handle in handles:
        await handle.result(timeout=60)
    assert (await checkup.look(broker, ["default"])).errors == []
