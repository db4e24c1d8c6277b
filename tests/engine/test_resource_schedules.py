"""Schedules of a TaskQueue resource on a worker: JSON becomes the types of the task, and ticks may be spread."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import pydantic
import pytest

from taskfleet import TaskQueue
from taskfleet.cancellation import end
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
    await asyncio.wait_for(done.wait(), 20)
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
