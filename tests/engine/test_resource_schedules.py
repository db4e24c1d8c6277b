"""Schedules of a TaskQueue resource on a worker: JSON becomes the types of the task, and ticks may be spread."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import pydantic
import pytest

from taskfleet import TaskQueue
from taskfleet.cancellation import end
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.schedules import ScheduleState
from taskfleet_operator import kept_schedules
from taskfleet_operator.kept_schedules import Owner
from taskfleet_operator.local.local_schedules import LocalSchedules
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.manifests import SCHEDULE, changed


class Deep(pydantic.BaseModel):
    count: int
    when: dt.datetime


def wanted(**fields: Any) -> kept_schedules.WantedSchedule:
    body = changed({"spec.schedules": [SCHEDULE | fields]})
    body["metadata"] = {"name": "orders", "namespace": "shop", "uid": "uid-1"}
    (one,) = kept_schedules.wanted_of(TaskQueueResource.model_validate(body))
    return one


async def add_due(queue: TaskQueue, one: kept_schedules.WantedSchedule) -> None:
    store = queue.broker.schedules
    await store.add(one.partition, one.name, one.packed, await store.now_ms(one.partition))


async def test_the_arguments_of_a_resource_become_the_types_of_the_task(
    queue: TaskQueue, run_worker: RunWorker
) -> None:
    got: list[Any] = []
    done = asyncio.Event()

    @queue.task(name="report")
    async def report(day: dt.date, factor: float, deep: Deep, names: tuple[str, ...] = ()) -> None:
        got.extend([day, factor, deep, names])
        done.set()

    await add_due(
        queue,
        wanted(
            args=["2026-11-25", 3],
            kwargs={"deep": {"count": 2, "when": "2026-11-25T10:00:00Z"}, "names": ["a", "b"]},
        ),
    )
    await queue.start_scheduler()
    await run_worker(queue)
    await asyncio.wait_for(done.wait(), 60)
    moment = dt.datetime(2026, 11, 25, 10, tzinfo=dt.UTC)
    assert got == [dt.date(2026, 11, 25), 3.0, Deep(count=2, when=moment), ("a", "b")]
    assert type(got[1]) is float
    await queue.remove_schedule("nightly")


async def test_a_tick_with_jitter_adds_a_task_that_is_ready_later(queue: TaskQueue) -> None:
    await add_due(queue, wanted(jitterSeconds=3600))
    await queue.start_scheduler()

    async def added() -> bool:
        return (await queue.queue_stats("default")).enqueued_total == 1

    await until(added, "the tick is performed on time")
    stats = await queue.queue_stats("default", horizon=3600)
    assert (stats.ready, stats.delayed, stats.due) == (0, 1, 1)
    await queue.remove_schedule("nightly")


@pytest.mark.parametrize("field", [{"suspend": True}])
async def test_a_suspended_one_is_not_due(queue: TaskQueue, field: dict[str, Any]) -> None:
    await add_due(queue, wanted(**field))
    assert (await queue.broker.figures({"default": (10**9, 10**9)})).stats["default"].ticks_due == 0
    await queue.remove_schedule("nightly")


@pytest.mark.parametrize(
    ("options", "refuses"),
    [
        ({}, False),
        ({"signing_keys": [b"s" * 32]}, True),
        ({"signing_keys": [b"s" * 32], "sealing": "write"}, False),
        ({"encryption_keys": [b"e" * 32]}, True),
    ],
)
async def test_a_worker_says_whether_it_refuses_a_schedule_that_nobody_has_sealed(
    make_queue: MakeQueue, run_worker: RunWorker, options: dict[str, Any], refuses: bool
) -> None:
    queue = make_queue(**options)
    await run_worker(queue)
    await until(queue.broker.workers, "its first heartbeat")
    assert [info.sealed_only for info in await queue.broker.workers()] == [refuses]


@pytest.mark.parametrize("runs", [True, False], ids=["the next run", "its end"])
async def test_on_this_machine_too_a_schedule_goes_with_its_queue(queue: TaskQueue, runs: bool) -> None:
    one, other = wanted(), wanted(name="other")
    left = kept_schedules.WantedSchedule(one.name, (await queue.broker.partitions("mail"))[0], one.spec)
    await add_due(queue, left)
    said: list[str] = []
    schedules = LocalSchedules(
        Owner("shop", "orders", "uid-1"), [] if runs else [other], {"default"}, queue.broker, said.append
    )
    if runs:
        keeping = asyncio.create_task(schedules.keep())
        await until(lambda: said, "it is removed")
        await end([keeping])
    else:
        await schedules.remove()
    assert said == ["schedule nightly of queue mail is removed"]
    assert await queue.list_schedules() == []


# A schedule that moves to another queue.

OWNER, OLD, TICK_MS = Owner("shop", "orders", "uid-1"), Partition("mail"), 4_102_455_600_000


class _DeadError(Exception):
    """The process has died."""


class Steps:
    """Does at most so many writes of a broker, and looks at the ticks after each."""

    def __init__(self, queue: TaskQueue, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = most
        self.ticking: list[int] = []
        self._store = queue.broker.schedules
        for name in ("add", "remove"):
            monkeypatch.setattr(self._store, name, self._counted(getattr(self._store, name)))

    def _counted(self, write: Any) -> Any:
        async def counted(*given: Any) -> Any:
            if self.left == 0:
                raise _DeadError
            self.left -= 1
            done = await write(*given)
            self.ticking.append(sum(entry.tick_ms is not None for entry in await self._store.entries()))
            return done

        return counted


async def bring(queue: TaskQueue, one: kept_schedules.WantedSchedule) -> None:
    plan = kept_schedules.plan_of(OWNER, [one], await queue.broker.schedules.entries())
    await kept_schedules.carry_out(queue.broker, plan)


@pytest.fixture
async def moving(queue: TaskQueue) -> kept_schedules.WantedSchedule:
    """The schedule as it is wanted in `default`; it is in `mail`, and ticks at `TICK_MS`."""
    one = wanted()
    await queue.broker.schedules.add(OLD, one.name, one.packed, TICK_MS)
    return one


@pytest.mark.parametrize("writes", range(4))
async def test_a_move_that_ends_in_the_middle_neither_repeats_nor_loses_a_tick(
    queue: TaskQueue, moving: kept_schedules.WantedSchedule, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        steps = Steps(queue, writes, patch)
        if writes < 3:
            with pytest.raises(_DeadError):
                await bring(queue, moving)
        else:
            await bring(queue, moving)
        assert all(ticking <= 1 for ticking in steps.ticking), "two queues perform one tick"
    await bring(queue, moving)  # the next look, of whichever process
    there = await queue.broker.schedules.entries()
    assert [(entry.partition, entry.spec, entry.tick_ms) for entry in there] == [
        (moving.partition, moving.packed, TICK_MS)
    ]
    await queue.remove_schedule("nightly")


async def test_a_move_that_is_taken_back_keeps_the_tick(
    queue: TaskQueue, moving: kept_schedules.WantedSchedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Steps(queue, 1, patch)
        with pytest.raises(_DeadError):
            await bring(queue, moving)
    await bring(queue, dataclasses.replace(moving, partition=OLD))
    (entry,) = await queue.broker.schedules.entries()
    assert (entry.partition, entry.spec, entry.tick_ms) == (OLD, moving.packed, TICK_MS)
    await queue.remove_schedule("nightly")


async def test_a_tick_between_the_look_and_the_move_is_not_performed_again(
    queue: TaskQueue, moving: kept_schedules.WantedSchedule
) -> None:
    plan = kept_schedules.plan_of(OWNER, [moving], await queue.broker.schedules.entries())
    _, ticks, states = queue.broker.keys_of(OLD).schedules
    following = moving.spec.timing.following(TICK_MS)
    await queue.broker.client.redis.hset(states, moving.name, ScheduleState(TICK_MS, "id", fired=1).pack())
    await queue.broker.client.redis.zadd(ticks, {moving.name: following})
    await kept_schedules.carry_out(queue.broker, plan)
    (entry,) = await queue.broker.schedules.entries()
    assert (entry.partition, entry.tick_ms) == (moving.partition, following)
    await queue.remove_schedule("nightly")


async def test_one_that_was_suspended_by_hand_has_no_tick_to_keep(
    queue: TaskQueue, moving: kept_schedules.WantedSchedule
) -> None:
    still = dataclasses.replace(moving.spec, paused=True)
    await queue.broker.schedules.add(OLD, moving.name, still.pack(), TICK_MS)
    await bring(queue, moving)
    (entry,) = await queue.broker.schedules.entries()
    now_ms = await queue.broker.schedules.now_ms(OLD)
    assert entry.tick_ms == moving.spec.timing.following(now_ms) != TICK_MS
    await queue.remove_schedule("nightly")


@pytest.mark.parametrize("spoilt", ["inf", "-inf", "-5", "1e300", "253402300799001", None])
async def test_a_tick_that_another_program_has_spoilt_or_taken_away_is_set_again(
    queue: TaskQueue, spoilt: str | None
) -> None:
    """As a resource's schedule it would otherwise be in line, and never tick."""
    one, broker = wanted(), queue.broker
    await broker.schedules.add(one.partition, one.name, one.packed, 4_000_000_000_000)
    ticks = broker.keys_of(one.partition).schedules.ticks
    if spoilt is None:
        await broker.client.redis.zrem(ticks, one.name)
    else:
        await broker.client.redis.zadd(ticks, {one.name: spoilt})
    assert not (await broker.schedules.due([one.partition], limit=10))[0].entries
    for times in (1, 0):
        there = await kept_schedules.stored(broker, {"default"}, everywhere=False)
        plan = kept_schedules.plan_of(Owner("shop", "orders", "uid-1"), [one], there)
        assert (len(plan.add), plan.remove, plan.foreign) == (times, [], {})
        await kept_schedules.carry_out(broker, plan)
    (entry,) = await broker.schedules.entries()
    now = await broker.schedules.now_ms(one.partition)
    assert entry.tick_ms == one.spec.timing.following(now)
    await queue.remove_schedule(one.name)


async def test_a_spoilt_tick_makes_a_schedule_of_somebody_else_not_ours(queue: TaskQueue) -> None:
    one, broker = wanted(), queue.broker
    theirs = dataclasses.replace(one.spec, owner="")
    await broker.schedules.add(one.partition, one.name, theirs.pack(), 4_000_000_000_000)
    await broker.client.redis.zadd(broker.keys_of(one.partition).schedules.ticks, {one.name: "inf"})
    there = await kept_schedules.stored(broker, {"default"}, everywhere=False)
    plan = kept_schedules.plan_of(Owner("shop", "orders", "uid-1"), [one], there)
    assert (plan.add, plan.remove, plan.foreign) == ([], [], {one.name: "no TaskQueue"})
    await queue.remove_schedule(one.name)
