"""Schedules: their records, the tasks that ticks add, missed ticks, and ticks while the last task is unfinished."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskfleet import Schedule, TaskNotFoundError, TaskQueue
from taskfleet.protocol import envelope
from taskfleet.scheduling.scheduler import Scheduler
from taskfleet.settings import SchedulerSettings
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support import white_box
from tests.support.ticks import LONG_AGO, added, overdue, schedule
from tests.support.white_box import now_ms

DAY = 86_400_000


@pytest.fixture
async def scheduler(queue: TaskQueue) -> AsyncIterator[Scheduler]:
    """A scheduler whose passes the test triggers itself."""
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    yield scheduler
    await scheduler._broker.close()


async def add(on: TaskQueue, name: str = "s", schedule: str = "0 0 * * *", **options: Any) -> Schedule:
    """A schedule that ticks once a day by default."""
    return await on.add_schedule(name=name, schedule=schedule, **{"task": "note", "args": [name]} | options)


def ms(moment: datetime | None) -> float:
    assert moment is not None
    return moment.timestamp() * 1000


async def test_a_schedule_is_listed_as_it_was_added(queue: TaskQueue) -> None:
    await queue.add_schedule(
        name="nightly", schedule="30 2 * * *", time_zone="Europe/Berlin", task="report", queue="reports",
        kwargs={"day": "x"}, starting_deadline_seconds=90, concurrency_policy="Forbid",
    )  # fmt: skip
    await queue.add_schedule(name="beat", every=timedelta(seconds=90), task="report")
    beat, nightly = await queue.list_schedules()
    assert (nightly.name, nightly.schedule, nightly.every, nightly.time_zone) == (
        "nightly", "30 2 * * *", None, "Europe/Berlin",
    )  # fmt: skip
    assert (nightly.task, nightly.queue, nightly.concurrency_policy) == ("report", "reports", "Forbid")
    assert (nightly.starting_deadline_seconds, nightly.paused) == (90, False)
    assert nightly.next_at is not None
    assert datetime.now(UTC) < nightly.next_at <= datetime.now(UTC) + timedelta(hours=25)
    assert (nightly.last_at, nightly.last_task_id, nightly.fired_total) == (None, None, 0)
    assert (beat.schedule, beat.every, beat.time_zone, beat.queue) == (None, 90, "UTC", "default")
    assert beat.next_at is not None
    assert beat.next_at.timestamp() % 90 == 0


async def test_a_tick_adds_the_task_and_a_worker_runs_it(
    queue: TaskQueue, scheduler: Scheduler, run_worker: RunWorker
) -> None:
    @queue.task
    async def double(n: int) -> int:
        return 2 * n

    await add(queue, task=double, args=[21])
    await overdue(queue, "s", DAY)
    await run_worker(queue)
    await scheduler.one_pass()
    fired = await schedule(queue, "s")
    assert fired.last_task_id is not None
    assert await queue.handle(fired.last_task_id).result(timeout=60) == 42


async def test_the_missed_ticks_of_a_downtime_fire_once(queue: TaskQueue, scheduler: Scheduler) -> None:
    added_as = await add(queue)
    await overdue(queue, "s", 40 * DAY)
    await scheduler.one_pass()
    await scheduler.one_pass()
    assert len(await added(queue)) == 1
    after = await schedule(queue, "s")
    assert after.next_at == added_as.next_at
    assert ms(after.last_at) == ms(added_as.next_at) - DAY
    assert (after.fired_total, after.skipped_total, after.dropped_total) == (1, 0, 0)


async def test_a_million_missed_ticks_cost_no_more_than_one(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue, schedule="* * * * * *")
    await overdue(queue, "s", LONG_AGO)
    began = time.process_time()
    await scheduler.one_pass()
    assert time.process_time() - began < 0.5
    assert (await schedule(queue, "s")).fired_total == 1
    assert len(await added(queue)) == 1


async def test_a_tick_beyond_its_starting_deadline_is_dropped_counted_and_logged(
    queue: TaskQueue, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    # Its last tick was between one millisecond and one day ago.
    await add(queue, starting_deadline_seconds=0.001)
    await overdue(queue, "s", DAY)
    before = await schedule(queue, "s")
    with caplog.at_level(logging.WARNING, "taskfleet.scheduler"):
        await scheduler.one_pass()
        await scheduler.one_pass()
    assert await added(queue) == []
    after = await schedule(queue, "s")
    assert (after.fired_total, after.dropped_total, after.last_at) == (0, 1, None)
    assert ms(after.next_at) == ms(before.next_at) + DAY
    (record,) = caplog.records
    assert "'s' of queue 'default': ticks were later than the starting deadline" in record.getMessage()


async def test_a_deadline_lets_the_last_of_the_missed_ticks_fire(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue, starting_deadline_seconds=86_400)
    await overdue(queue, "s", 5 * DAY)
    await scheduler.one_pass()
    after = await schedule(queue, "s")
    assert (after.fired_total, after.dropped_total) == (1, 1)


async def test_replacing_keeps_the_next_tick_even_an_overdue_one(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue, args=["old"])
    await overdue(queue, "s", DAY)
    before = await schedule(queue, "s")
    replaced = await add(queue, schedule="@daily", args=["new"], concurrency_policy="Replace")
    assert replaced.next_at == before.next_at
    await scheduler.one_pass()
    await add(queue, args=["newer"])
    await scheduler.one_pass()
    assert [task.args for task in await added(queue)] == [("new",)]
    assert (await schedule(queue, "s")).fired_total == 1


async def test_many_processes_that_start_at_once_add_one_schedule(make_queue: MakeQueue) -> None:
    queues = [make_queue() for _ in range(8)]
    listed = await asyncio.gather(*(add(queue) for queue in queues))
    assert len({one.next_at for one in listed}) == 1
    await overdue(queues[0], "s", DAY)
    scheduler = Scheduler(queues[0].application, queues[0].sessions.new_broker())
    await asyncio.gather(scheduler.one_pass(), *(add(queue) for queue in queues))
    await scheduler.one_pass()
    assert (await schedule(queues[0], "s")).fired_total == 1
    assert len(await added(queues[0])) == 1
    await scheduler._broker.close()


async def test_another_time_gives_another_tick_and_drops_the_overdue_one(
    queue: TaskQueue, scheduler: Scheduler
) -> None:
    await add(queue)
    await overdue(queue, "s", DAY)
    replaced = await add(queue, schedule="30 12 * * *", time_zone="Asia/Kathmandu")
    assert ms(replaced.next_at) > await now_ms(queue)
    await scheduler.one_pass()
    assert await added(queue) == []


async def test_the_same_name_in_another_queue_moves_it_with_its_next_tick(
    queue: TaskQueue, scheduler: Scheduler
) -> None:
    await add(queue)
    await overdue(queue, "s", DAY)
    before = await schedule(queue, "s")
    moved = await add(queue, queue="other")
    assert (moved.queue, moved.next_at) == ("other", before.next_at)
    assert [found.queue for found in await queue.list_schedules()] == ["other"]
    await scheduler.one_pass()
    assert await added(queue) == []
    assert len(await added(queue, "other")) == 1


async def test_a_tick_that_was_read_before_its_schedule_changed_does_nothing(
    queue: TaskQueue, scheduler: Scheduler
) -> None:
    await add(queue, args=["old"])
    await overdue(queue, "s", DAY)
    store = scheduler._store
    (due,) = await store.due(["default"], limit=10)
    tick = scheduler._judged(due.entries[0], due.now_ms)
    assert tick is not None
    await add(queue, args=["new"])
    assert [reply.result for reply in await store.tick([tick])] == ["stale"]
    await queue.remove_schedule("s")
    assert [reply.result for reply in await store.tick([tick])] == ["stale"]
    assert await added(queue) == []
    assert await queue.list_schedules() == []


async def test_a_tick_whose_reply_was_lost_is_not_repeated(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue)
    await overdue(queue, "s", DAY)
    (due,) = await scheduler._store.due(["default"], limit=10)
    tick = scheduler._judged(due.entries[0], due.now_ms)
    assert tick is not None
    assert [reply.result for reply in await scheduler._store.tick([tick, tick])] == ["fired", "stale"]
    assert len(await added(queue)) == 1


async def test_forbid_skips_while_the_last_task_is_unfinished_and_a_dead_one_blocks_nothing(
    queue: TaskQueue, scheduler: Scheduler, run_worker: RunWorker
) -> None:
    @queue.task(max_retries=0)
    async def boom() -> None:
        raise ValueError("bad luck")

    await add(queue, task=boom, args=[], concurrency_policy="Forbid")
    for _ in range(3):
        await overdue(queue, "s", DAY)
        await scheduler.one_pass()
    assert len(await added(queue)) == 1
    waiting = await schedule(queue, "s")
    assert (waiting.fired_total, waiting.skipped_total) == (1, 2)
    await run_worker(queue)
    await until(lambda: dead(queue, 1), "the first has failed")
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    await until(lambda: dead(queue, 2), "the next has run")
    after = await schedule(queue, "s")
    assert (after.fired_total, after.skipped_total) == (2, 2)


async def dead(queue: TaskQueue, count: int) -> bool:
    return (await queue.queue_stats("default")).dead == count


async def test_replace_cancels_a_waiting_task(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue, concurrency_policy="Replace")
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    (first,) = await added(queue)
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    (second,) = await added(queue)
    assert first.id != second.id
    assert await queue.handle(first.id).status() == "cancelled"
    assert await queue.handle(second.id).status() == "ready"
    assert (await queue.queue_stats("default")).ready == 1


async def test_replace_cancels_a_running_task(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    # The worker is notified, and does not find the mark only at its next renewal, in 60 s.
    queue = make_queue(heartbeat=60, queues=[{"name": "default", "lease_seconds": 300}])
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    started: list[str] = []

    @queue.task
    async def long(name: str) -> None:
        started.append(name)
        await asyncio.sleep(60)

    await run_worker(queue)
    await add(queue, task=long, concurrency_policy="Replace")
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    first = (await schedule(queue, "s")).last_task_id
    assert first is not None
    await until(lambda: started, "it runs")
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    await until(lambda: len(started) == 2, "its successor runs")

    async def cancelled() -> bool:
        return await queue.handle(first).status() == "cancelled"

    await until(cancelled, "it was cancelled")
    second = (await schedule(queue, "s")).last_task_id
    assert second is not None
    assert await queue.handle(second).status() == "running"
    await queue.handle(second).cancel()
    await scheduler._broker.close()


async def test_replace_leaves_a_mark_for_a_worker_that_does_not_listen(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue, concurrency_policy="Replace")
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    ((_, claimed, *_),) = (
        await queue.broker.step("default", queue.application.options_of("default"), "deaf", 1, [])
    ).claims
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    assert await white_box.cancel_marks(queue) == {claimed}
    assert len(await added(queue)) == 1


async def test_allow_adds_beside_an_unfinished_task(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue)
    for _ in range(2):
        await overdue(queue, "s", DAY)
        await scheduler.one_pass()
    assert len(await added(queue)) == 2


async def test_a_full_queue_lets_the_tick_wait_for_room(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "max_length": 1}])
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())

    @queue.task
    async def note(name: str) -> None: ...

    await note.enqueue("in the way")
    await add(queue)
    await overdue(queue, "s", 3 * DAY)
    assert await scheduler.one_pass() <= 1.0
    assert [task.args for task in await added(queue)] == [("in the way",)]
    assert (await schedule(queue, "s")).fired_total == 0
    await queue.purge("default")
    await scheduler.one_pass()
    await scheduler.one_pass()
    assert [task.args for task in await added(queue)] == [("s",)]
    await scheduler._broker.close()


async def test_a_task_that_is_replaced_makes_room_in_a_full_queue(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "max_length": 1}])
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    await add(queue, concurrency_policy="Replace")
    for count in (1, 2):
        await overdue(queue, "s", DAY)
        await scheduler.one_pass()
        assert (await schedule(queue, "s")).fired_total == count
    assert len(await added(queue)) == 1
    await scheduler._broker.close()


async def test_a_tick_wakes_an_idle_worker_and_tells_who_watches_for_work(
    queue: TaskQueue, scheduler: Scheduler
) -> None:
    await add(queue)
    await overdue(queue, "s", DAY)
    activity = queue.broker.activity()
    assert await anext(activity) == ""
    await scheduler.one_pass()
    assert await asyncio.wait_for(anext(activity), 60) == "default"
    assert await white_box.calls(queue) == 1
    assert (await queue.queue_stats("default")).enqueued_total == 1
    await activity.aclose()  # type: ignore[attr-defined]


async def test_a_unique_key_that_is_taken_skips_the_tick(queue: TaskQueue, scheduler: Scheduler) -> None:
    @queue.task(unique_key=lambda name: f"report-{name}")
    async def report(name: str) -> None: ...

    held = await report.enqueue("s")
    await add(queue, task=report)
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    assert [task.id for task in await added(queue)] == [held.id]
    after = await schedule(queue, "s")
    assert (after.fired_total, after.skipped_total) == (0, 1)
    await held.cancel()
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    ticked = (await schedule(queue, "s")).last_task_id
    assert (await report.enqueue("s")).id == ticked


async def test_a_tick_replaces_who_has_its_unique_key_if_the_task_says_so(
    queue: TaskQueue, scheduler: Scheduler
) -> None:
    @queue.task(unique_key="only", unique_mode="replace")
    async def report(name: str) -> None: ...

    held = await report.options(delay=60).enqueue("by hand")
    await add(queue, task=report)
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    ticked = (await schedule(queue, "s")).last_task_id
    assert ticked is not None
    assert await held.status() == "cancelled"
    assert await queue.handle(ticked).status() == "delayed"  # it takes the time of the replaced task, as in an enqueue


async def test_a_tick_keeps_the_tasks_own_delay_expiry_and_keys(
    queue: TaskQueue, scheduler: Scheduler, run_worker: RunWorker
) -> None:
    running: list[str] = []
    most: list[int] = []

    @queue.task(limit_key="one", expires=30, delay=0.2)
    async def report(name: str) -> None:
        running.append(name)
        most.append(len(running))
        await asyncio.sleep(0.05)
        running.remove(name)

    for name in ("a", "b", "c"):
        await add(queue, name, task=report)
        await overdue(queue, name, DAY)
    before = await now_ms(queue)
    await scheduler.one_pass()
    after = await now_ms(queue)
    assert (await queue.queue_stats("default")).delayed == 3
    for blob in await white_box.unfinished(queue):
        settings = envelope.decode(blob).settings
        assert before - 1000 < settings["x"] * 1000 - 30_000 < after + 1000
    limited = dataclasses.replace(queue.application.options_of("default"), concurrency_per_key=1)
    queue.application._options["default"] = limited
    await run_worker(queue)
    await until(lambda: len(most) == 3, "all have run")
    assert max(most) == 1


async def test_the_schedules_of_a_queue_in_partitions_are_spread_and_tick(make_queue: MakeQueue) -> None:
    queue = make_queue(queues=[{"name": "default", "partitions": 4}])
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    names = [f"s{n}" for n in range(8)]
    for name in names:
        await add(queue, name)
    places = {entry.name: entry.partition for entry in await queue.broker.schedules.entries()}
    assert len(set(places.values())) > 1
    assert {found.queue for found in await queue.list_schedules()} == {"default"}
    for name, place in places.items():
        await overdue(queue, name, DAY, of=place)
    await scheduler.one_pass()
    for name, place in places.items():
        assert (name,) in {task.args for task in await added(queue, place)}
    assert (await queue.queue_stats("default")).ready == len(names)
    # With another number of partitions, each schedule is still in one partition.
    fewer = make_queue(queues=[{"name": "default", "partitions": 1}])
    for name in names:
        await add(fewer, name)
    assert {entry.partition for entry in await queue.broker.schedules.entries()} == {"default"}
    assert len(await fewer.list_schedules()) == len(names)
    await scheduler._broker.close()


async def test_tasks_that_wait_for_a_replaced_task_are_cancelled_too(queue: TaskQueue, scheduler: Scheduler) -> None:
    @queue.task
    async def note(name: str) -> None: ...

    await add(queue, task=note, concurrency_policy="Replace")
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    first = (await schedule(queue, "s")).last_task_id
    assert first is not None
    behind = await note.options(after=[queue.handle(first)], queue="elsewhere").enqueue("behind")
    assert await behind.status() == "blocked"
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    assert await queue.handle(first).status() == "cancelled"
    assert await behind.status() == "cancelled"


async def test_one_pass_adds_no_more_than_its_limit_and_no_queue_waits_for_another(make_queue: MakeQueue) -> None:
    queue = make_queue(scheduler=SchedulerSettings(max_tasks_per_tick=2))
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    for n in range(5):
        for name in ("default", "other"):
            await add(queue, f"{name}-{n}", queue=name)
            await overdue(queue, f"{name}-{n}", DAY, of=name)
    sizes: list[tuple[int, int]] = []
    for _ in range(6):
        seconds = await scheduler.one_pass()
        sizes.append((len(await added(queue)), len(await added(queue, "other"))))
        assert (seconds < 0.01) == (sum(sizes[-1]) < 10)
    assert [sum(size) for size in sizes] == [2, 4, 6, 8, 10, 10]
    assert all(sizes[1])
    await scheduler._broker.close()


async def test_a_removed_schedule_leaves_nothing_and_ticks_no_more(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue)
    await overdue(queue, "s", DAY)
    await scheduler.one_pass()
    assert await queue.remove_schedule("s") is True
    assert await queue.remove_schedule("s") is False
    await queue.purge("default")
    await scheduler.one_pass()
    assert await added(queue) == []
    assert await queue.list_schedules() == []
    assert not await white_box.keeps_schedules(queue)


async def test_a_paused_schedule_does_not_tick_until_it_is_added_again(queue: TaskQueue, scheduler: Scheduler) -> None:
    await add(queue)
    await overdue(queue, "s", DAY)
    paused = await add(queue, paused=True)
    assert (paused.paused, paused.next_at) == (True, None)
    await scheduler.one_pass()
    resumed = await add(queue)
    await scheduler.one_pass()
    assert await added(queue) == []
    assert ms(resumed.next_at) > await now_ms(queue)


async def test_a_schedule_of_a_newer_version_is_left_alone_and_stops_nothing(
    queue: TaskQueue, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    import msgpack

    await add(queue, "newer")
    await add(queue, "s")
    fields = msgpack.unpackb(await white_box.spec_of(queue, "newer"), raw=True)
    await white_box.set_spec(queue, "newer", msgpack.packb([2, *fields[1:]], use_bin_type=False))
    for name in ("newer", "s"):
        await overdue(queue, name, DAY)
    with caplog.at_level(logging.WARNING, "taskfleet.scheduler"):
        assert await scheduler.one_pass() > 0.5
        await scheduler.one_pass()
    assert [task.args for task in await added(queue)] == [("s",)]
    (record,) = caplog.records
    assert "'newer' of queue 'default' does not tick here: the schedule has version 2" in record.getMessage()
    assert [found.name for found in await queue.list_schedules()] == ["s"]


async def test_more_unreadable_schedules_than_fit_in_a_pass_do_not_make_the_scheduler_spin(
    make_queue: MakeQueue,
) -> None:
    queue = make_queue(scheduler=SchedulerSettings(max_tasks_per_tick=1))
    scheduler = Scheduler(queue.application, queue.sessions.new_broker())
    for name in ("a", "b"):
        await add(queue, name)
        await overdue(queue, name, DAY)
        await white_box.set_spec(queue, name, b"\x92\x02\x00")
    await scheduler.one_pass()
    for _ in range(3):  # skipped, and not read again at once
        assert await scheduler.one_pass() > 0.5
    await scheduler._broker.close()


async def test_purging_a_queues_keys_takes_its_schedules(queue: TaskQueue) -> None:
    await add(queue)
    await queue.broker.purge_keys(["default"])
    assert await queue.list_schedules() == []


@pytest.mark.parametrize("foreign", [1, 250, 2000])
async def test_schedules_that_are_due_and_unreadable_here_keep_no_other_from_its_ticks(
    queue: TaskQueue, scheduler: Scheduler, foreign: int
) -> None:
    await white_box.spoilt_schedules(queue, foreign)
    await add(queue)
    for fired in (1, 2, 3):
        await overdue(queue, "s", DAY)
        for _ in range(foreign // 100 + 1):
            await scheduler.one_pass()
        assert (await schedule(queue, "s")).fired_total == fired


async def test_an_unreadable_schedule_is_read_again_when_schedules_change(
    queue: TaskQueue, scheduler: Scheduler
) -> None:
    await white_box.spoilt_schedules(queue, 250)
    for _ in range(3):
        await scheduler.one_pass()
    await add(queue)
    await overdue(queue, "s", 30 * 365 * DAY)  # before all of them
    for _ in range(4):
        await scheduler.one_pass()
    assert (await schedule(queue, "s")).fired_total == 1


async def test_a_paused_schedule_keeps_all_else_and_resumes_from_now_on(queue: TaskQueue, scheduler: Scheduler) -> None:
    before = await add(queue, concurrency_policy="Forbid", starting_deadline_seconds=60)
    assert await queue.pause_schedule("s")
    (paused,) = await queue.list_schedules()
    assert paused == dataclasses.replace(before, paused=True, next_at=None)
    await scheduler.one_pass()
    assert await added(queue) == []
    assert await queue.pause_schedule("s")  # again, without any effect
    assert await queue.resume_schedule("s")
    assert await queue.list_schedules() == [before]
    assert not await queue.pause_schedule("nope")
    assert not await queue.resume_schedule("nope")


async def test_a_change_loses_nothing_that_another_program_has_changed_since(queue: TaskQueue) -> None:
    await add(queue)
    (entry,) = await queue.broker.schedules.entries()
    await add(queue, args=["other"])
    assert not await queue.broker.schedules.change(entry, entry.spec, 1)
    (now,) = await queue.broker.schedules.entries()
    assert now.spec != entry.spec
    assert await queue.broker.schedules.change(now, entry.spec, now.tick_ms or 0)
    assert await queue.broker.schedules.change(now, entry.spec, now.tick_ms or 0)  # sent twice
    assert [each.spec for each in await queue.broker.schedules.entries()] == [entry.spec]


async def test_a_schedule_runs_now_beside_its_ticks(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def note(text: str) -> str:
        return text * 2

    before = await add(queue, paused=True, concurrency_policy="Forbid")
    first, second = await queue.run_schedule("s"), await queue.run_schedule("s")
    await run_worker(queue)
    assert [await first.result(timeout=60), await second.result(timeout=60)] == ["ss", "ss"]
    assert await queue.list_schedules() == [before]
    with pytest.raises(TaskNotFoundError, match="no schedule is named 'nope'"):
        await queue.run_schedule("nope")


async def test_a_schedule_that_runs_now_keeps_its_unique_key(queue: TaskQueue) -> None:
    @queue.task(unique_key="one")
    async def note(text: str) -> None: ...

    await add(queue, task=note)
    first = await queue.run_schedule("s")
    assert (await queue.run_schedule("s")).id == first.id
    assert [task.id for task in await added(queue)] == [first.id]


async def test_a_queue_that_is_paused_before_its_first_task_is_listed(queue: TaskQueue) -> None:
    await queue.pause("fresh")
    assert (await queue.get_metrics())["fresh"].paused
