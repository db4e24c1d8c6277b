"""The scheduler's loop: each tick fires once, on time by the clock of Redis, however many schedulers run and die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from taskfleet import TaskQueue, TaskQueueError
from taskfleet.scheduling.scheduler import Scheduler
from taskfleet.settings import SchedulerSettings
from tests.engine.conftest import MakeQueue, until
from tests.support.redis_server import RedisServer
from tests.support.ticks import added, overdue, schedule, start_process
from tests.support.white_box import now_ms

DAY = 86_400_000

# A machine that stands still for a moment misses no tick of this period: of missed ones only the last is performed.
PERIOD = 5
EACH_PERIOD = f"*/{PERIOD} * * * * *"


async def each_period_once(queue: TaskQueue, names: list[str]) -> None:
    """Every schedule has fired exactly once in each period from its first tick to its last."""
    tasks = await added(queue)
    periods = {name: [int(task.at_ms // 1000 // PERIOD) for task in tasks if task.args == (name,)] for name in names}
    for name, ticks in periods.items():
        assert ticks == list(range(ticks[0], ticks[0] + len(ticks))), f"{name}: {Counter(ticks).most_common(3)}"
        assert (await schedule(queue, name)).fired_total == len(ticks)


async def test_ten_schedulers_let_each_tick_happen_once(make_queue: MakeQueue) -> None:
    queues = [make_queue() for _ in range(10)]
    names = [f"s{n}" for n in range(5)]
    for name in names:
        await queues[0].add_schedule(name=name, schedule=EACH_PERIOD, task="note", args=[name])
    for queue in queues:
        await queue.start_scheduler()

    async def enough() -> bool:
        return len(await added(queues[0])) >= 3 * len(names)

    await until(enough, "three ticks of each", seconds=12 * PERIOD)
    for queue in queues:
        await queue.stop_scheduler()
    await each_period_once(queues[0], names)


async def test_a_scheduler_killed_between_ticks_costs_none(queue: TaskQueue) -> None:
    names = ["a", "b"]
    for name in names:
        await queue.add_schedule(name=name, schedule=EACH_PERIOD, task="note", args=[name])
    processes = [await start_process(queue) for _ in range(2)]
    try:
        for round_ in range(3):
            count = len(await added(queue)) + len(names)

            async def ticked(count: int = count) -> bool:
                return len(await added(queue)) >= count

            await until(ticked, "both schedules tick", seconds=12 * PERIOD)
            processes[round_ % 2].kill()
            await processes[round_ % 2].wait()
            processes[round_ % 2] = await start_process(queue)
    finally:
        for process in processes:
            process.kill()
            await process.wait()
    await each_period_once(queue, names)


async def test_ticks_are_never_early_and_hardly_late(make_queue: MakeQueue) -> None:
    # `tick_interval` is far longer than the period, so the scheduler must wake up for the next tick that it knows.
    queue = make_queue(scheduler=SchedulerSettings(tick_interval=3600))
    await queue.add_schedule(name="s", schedule="* * * * * *", task="note", args=["s"])
    await queue.start_scheduler()

    async def enough() -> bool:
        return len(await added(queue)) >= 7

    await until(enough, "seven ticks", seconds=60)
    late = [task.at_ms % 1000 for task in await added(queue)]
    # 100 ms on an idle machine. A busy one is late with single ticks; a scheduler that wakes up late, or early, which
    # would show as about 999 ms, is so with most of them.
    assert statistics.median(late) < 500, late


async def test_a_schedule_added_elsewhere_is_heard_of_at_once(make_queue: MakeQueue) -> None:
    queue, other = make_queue(scheduler=SchedulerSettings(tick_interval=3600)), make_queue()
    await queue.start_scheduler()
    for name in ("first", "second"):
        # Daily schedules that tick in seconds: before they are added, the scheduler has no reason to wake up.
        for seconds in (5, 20, 60):  # on a busy machine the time may have come before the schedule is added
            soon = datetime.fromtimestamp(await now_ms(queue) / 1000 + seconds, UTC)
            found = await other.add_schedule(name=name, schedule=f"{soon:%S %M %H} * * *", task="note", queue=name)
            if found.next_at is not None and found.next_at <= soon:
                break
        await until(lambda name=name: added(queue, name), "it ticks", seconds=60)


async def test_a_schedule_whose_announcement_was_lost_is_found_after_the_interval(make_queue: MakeQueue) -> None:
    queue = make_queue(scheduler=SchedulerSettings(tick_interval=0.2))
    await queue.add_schedule(name="s", schedule="@daily", task="note")
    await queue.start_scheduler()
    await overdue(queue, "s", DAY)
    await until(lambda: added(queue), "it ticks")


async def test_an_idle_scheduler_sleeps(make_queue: MakeQueue, server: RedisServer) -> None:
    queue = make_queue(server.url, scheduler=SchedulerSettings(tick_interval=3600))
    await queue.add_schedule(name="s", schedule="@yearly", task="note")
    redis = queue.broker.client.redis
    await queue.start_scheduler()

    async def commands() -> int:
        return int((await redis.info("stats"))["total_commands_processed"])

    async def subscribed() -> bool:
        channel = queue.broker.fleet.schedules_channel
        return bool((await redis.pubsub_numsub(channel))[0][1])

    await until(subscribed, "it listens")
    before = -1

    async def still() -> bool:
        nonlocal before
        last, before = before, await commands()
        await asyncio.sleep(0.3)
        return before - last <= 2

    await until(still, "the commands after its subscription are done")
    before = await commands()
    await asyncio.sleep(1.0)
    assert await commands() - before <= 2


async def test_a_wrong_clock_of_this_machine_changes_nothing(
    make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, right = make_queue(), time.time
    for skew in (-3 * 86_400, 3 * 86_400):
        monkeypatch.setattr(time, "time", lambda skew=skew: right() + skew)
        scheduler = Scheduler(queue.application, queue.sessions.new_broker())
        before = await now_ms(queue)
        found = await queue.add_schedule(name="s", schedule="0 0 * * *", task="note")
        assert found.next_at is not None
        assert before < found.next_at.timestamp() * 1000 <= await now_ms(queue) + DAY
        assert 0 < await scheduler.one_pass() <= 60
        await queue.remove_schedule("s")
        await scheduler._broker.close()
    assert await added(queue) == []


async def test_a_scheduler_that_believes_a_tick_is_due_is_told_that_it_is_early(queue: TaskQueue) -> None:
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    found = await queue.add_schedule(name="s", schedule="@daily", task="note")
    assert found.next_at is not None
    tick_ms = int(found.next_at.timestamp() * 1000)
    (entry,) = await scheduler._store.entries()
    tick = scheduler._judged(entry, tick_ms + 5)
    assert tick is not None
    assert tick.fire_ms == tick_ms
    assert [reply.result for reply in await scheduler._store.tick([tick])] == ["early"]
    assert await added(queue) == []
    assert (await schedule(queue, "s")).next_at == found.next_at
    await scheduler._broker.close()


async def reachable(queue: TaskQueue) -> bool:
    with contextlib.suppress(TaskQueueError):
        return await queue.health_check()
    return False


async def test_a_restart_of_redis_costs_no_tick_and_repeats_none(make_queue: MakeQueue) -> None:
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        queue = make_queue(server.url)
        # A tick that is late by less than this period, since the machine stood still, is in no period of another.
        await queue.add_schedule(name="s", schedule="*/2 * * * * *", task="note", args=["s"])
        await queue.start_scheduler()
        await until(lambda: added(queue), "it ticks")
        before = len(await added(queue))
        server.stop()
        await asyncio.sleep(2.2)
        server.start()
        await until(lambda: reachable(queue), "Redis answers")

        async def more() -> bool:
            return len(await added(queue)) >= before + 3

        await until(more, "it ticks again", seconds=60)
        await queue.stop_scheduler()
        periods = [int(task.at_ms // 2000) for task in await added(queue)]
        assert len(periods) - len(set(periods)) <= 1  # the missed ticks fired as one, just before the next tick
        assert (await schedule(queue, "s")).fired_total == len(periods)
        await queue.close()


async def test_lost_scripts_are_not_noticed(make_queue: MakeQueue, server: RedisServer) -> None:
    queue = make_queue(server.url)
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    redis = queue.broker.client.redis
    await queue.add_schedule(name="s", schedule="@daily", task="note")
    for n in range(1, 4):
        await overdue(queue, "s", DAY)
        await redis.script_flush()
        await scheduler.one_pass()
        assert len(await added(queue)) == n
    await scheduler._broker.close()


async def test_starting_twice_is_starting_once_and_stopping_ends_it(queue: TaskQueue) -> None:
    await queue.start_scheduler()
    await queue.start_scheduler()
    await queue.stop_scheduler()
    await queue.stop_scheduler()
    await queue.add_schedule(name="s", schedule="@daily", task="note")
    await overdue(queue, "s", DAY)
    await asyncio.sleep(0.2)
    assert await added(queue) == []
    await queue.start_scheduler()
    await until(lambda: added(queue), "it ticks again")


async def test_a_redis_that_hangs_does_not_keep_the_scheduler_from_ending(make_queue: MakeQueue) -> None:
    with RedisServer() as server:
        queue = make_queue(server.url, scheduler=SchedulerSettings(tick_interval=0.05), redis={"command_timeout": 60.0})
        await queue.add_schedule(name="s", schedule="* * * * * *", task="note")
        await queue.start_scheduler()
        await until(lambda: added(queue), "it ticks")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(0.2)
            began = time.monotonic()
            await queue.stop_scheduler()
            assert time.monotonic() - began < 20.0, "it waits for a second; the call itself may take a minute"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await queue.close()
