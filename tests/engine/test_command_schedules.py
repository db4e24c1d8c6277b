"""`taskfleet schedules add|run|pause|resume`."""

from __future__ import annotations

import dataclasses
import json

import pytest

from taskfleet import TaskQueue
from taskfleet.scheduling.record import ScheduleSpec
from tests.engine.test_command import run

APP = ("--app", "tests.engine.app:queue")


async def test_a_schedule_is_added_replaced_paused_and_run(shared: TaskQueue) -> None:
    arguments = ["schedules", "add", "nightly", "--task", "note", "--args", '{"n": 5}', "--schedule", "0 3 * * *"]
    code, out, errors = await run(*arguments, *APP, "--time-zone", "Europe/Berlin")
    assert code == 0, errors
    assert out.startswith("schedule 'nightly' is added: next tick 20")
    code, out, _ = await run(*arguments, *APP, "--concurrency-policy", "Forbid", "--starting-deadline", "60")
    assert (code, out.split(":")[0]) == (0, "schedule 'nightly' is replaced")
    (schedule,) = await shared.list_schedules()
    assert (schedule.task, schedule.queue, schedule.concurrency_policy) == ("note", "default", "Forbid")
    assert (schedule.time_zone, schedule.starting_deadline_seconds) == ("UTC", 60)
    assert await run("schedules", "pause", "nightly") == (0, "schedule 'nightly' is paused\n", "")
    assert (await shared.list_schedules())[0].paused
    code, out, _ = await run("schedules", "run", "nightly")
    assert (code, await shared.handle(out.strip()).status()) == (0, "ready")
    code, out, _ = await run("schedules", "resume", "nightly")
    assert (code, out.split(":")[0]) == (0, "schedule 'nightly' ticks")
    assert not (await shared.list_schedules())[0].paused


async def test_a_schedule_needs_no_code_of_its_task(shared: TaskQueue) -> None:
    code, out, _ = await run(
        "schedules", "add", "beat", "--task", "elsewhere", "--every", "90", "--queue", "other", "--paused"
    )
    assert (code, out) == (0, "schedule 'beat' is added: paused\n")
    (schedule,) = await shared.list_schedules()
    assert (schedule.every, schedule.queue, schedule.task, schedule.paused) == (90, "other", "elsewhere", True)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["add", "x", "--task", "noop"], 2, "schedule"),
        (["add", "x", "--task", "noop", "--schedule", "bad"], 2, "bad"),
        (["add", "x", "--task", "noop", "--every", "5", "--concurrency-policy", "Forbit"], 2, "did you mean 'Forbid'?"),
        (["add", "x", "--task", "noop", "--every", "5", "--args", "{"], 2, "--args is not JSON"),
        (
            ["add", "x", "--task", "nope", "--every", "5", *APP],
            1,
            "no task is named 'nope'; known: block, hold, mirror, noop",
        ),
        (["add", "x", "--task", "note", "--every", "5", "--args", '["x"]', *APP], 1, "parameter 'n'"),
        (["add", "two words", "--task", "noop", "--every", "5"], 2, "schedule name 'two words' is not valid"),
        (["add", "x", "--every", "5"], 2, "Missing option '--task'"),
        (["run", "beet"], 1, "no schedule is named 'beet'; known: beat (did you mean 'beat'?)"),
        (["pause", "beet"], 1, "no schedule is named 'beet'; known: beat (did you mean 'beat'?)"),
        (["resume", "beet"], 1, "no schedule is named 'beet'; known: beat (did you mean 'beat'?)"),
        (["lst"], 2, "No such command 'lst'. Did you mean 'list'?"),
    ],
)
async def test_mistakes_are_one_line(shared: TaskQueue, arguments: list[str], code: int, line: str) -> None:
    await shared.add_schedule(name="beat", every=90, task="beat", paused=True)
    status, out, errors = await run("schedules", *arguments)
    assert (status, out) == (code, ""), errors
    assert errors.startswith("taskfleet: ")
    assert errors.count("\n") == 1
    assert line in errors


async def test_a_schedule_of_a_resource_is_left_to_it(shared: TaskQueue) -> None:
    await shared.add_schedule(name="kept", every=90, task="beat")
    (entry,) = await shared.broker.schedules.entries()
    owned = dataclasses.replace(ScheduleSpec.unpack(entry.spec), owner="shop/orders").pack()
    assert await shared.broker.schedules.change(entry, owned, entry.tick_ms or 0)
    code, _, errors = await run("schedules", "pause", "kept")
    assert code == 2
    assert errors == (
        "taskfleet: schedule 'kept' is kept by TaskQueue 'shop/orders': set spec.schedules[].suspend there\n"
    )
    _, out, _ = await run("schedules", "list", "--json")
    assert json.loads(out)["items"][0]["paused"] is False
