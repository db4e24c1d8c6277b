"""4. Time: a task that runs later, and one that runs again and again."""

from __future__ import annotations

import asyncio
import datetime as dt

from taskfleet import TaskQueue


async def test_a_delayed_task_waits_in_redis(queue: TaskQueue) -> None:
    @queue.task
    async def remind() -> str:
        return "your meeting begins"

    await queue.start_workers(1)
    soon = await remind.options(delay=0.2).enqueue()  # seconds, or a timedelta
    at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    later = await remind.options(eta=at).enqueue()  # a moment; it needs a time zone
    assert await later.status() == "delayed"
    assert await soon.result(timeout=60) == "your meeting begins"

    # No worker holds a delayed task, so that it can be cancelled up to its time.
    assert await later.cancel()
    assert await later.status() == "cancelled"


async def test_a_schedule_adds_a_task_at_every_tick(queue: TaskQueue) -> None:
    seen: list[str] = []
    twice = asyncio.Event()

    @queue.task
    async def beat(name: str) -> None:
        seen.append(name)
        if len(seen) == 2:
            twice.set()

    # Schedules are stored in Redis. An application adds them when it starts or is deployed; the same name again is the
    # same schedule, not a second one.
    await queue.add_schedule(name="beat", every=1, task=beat, args=["heart"])
    await queue.add_schedule(name="report", schedule="30 2 * * MON-FRI", time_zone="Europe/Berlin", task="report")
    assert [schedule.name for schedule in await queue.list_schedules()] == ["beat", "report"]

    # Every `taskfleet worker` process ticks for all schedules, and each tick adds one task, however many there are.
    await queue.start_scheduler()
    await queue.start_workers(1)
    await asyncio.wait_for(twice.wait(), 60)
    assert seen[:2] == ["heart", "heart"]

    assert await queue.remove_schedule("beat")
