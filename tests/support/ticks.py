"""Support for schedule tests: the tasks that ticks have added, and moving the time of one schedule."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass

from taskfleet import Schedule, TaskQueue
from taskfleet.child_process import ends_with_this_process
from tests.support import white_box

LONG_AGO = 12 * 86_400_000  # milliseconds: a million ticks of a second each


@dataclass(frozen=True, slots=True)
class Added:
    """A waiting task: its arguments, and the time of its acceptance in milliseconds of Redis' clock."""

    id: str
    args: tuple[object, ...]
    at_ms: float


async def added(queue: TaskQueue, name: str = "default") -> list[Added]:
    """The ready tasks of a queue, in order."""
    waiting = await white_box.ready(queue, name)
    found = [(i, queue.application.seal.open_task(name, i, blob)) for i, blob in waiting]
    return [Added(i, tuple(call.args), call.enqueued_ms) for i, call in found]


async def schedule(queue: TaskQueue, name: str) -> Schedule:
    """The one schedule of that name."""
    (found,) = [schedule for schedule in await queue.list_schedules() if schedule.name == name]
    return found


async def overdue(queue: TaskQueue, name: str, ms: int, *, of: str = "default") -> None:
    """Move the next tick of a schedule `ms` into the past, as after a downtime. Use multiples of its period."""
    await white_box.move_tick(queue, name, -ms, of)


async def _run_scheduler() -> None:
    queue = TaskQueue.from_config()
    await queue.start_scheduler()
    print("started", flush=True)
    await asyncio.Event().wait()


async def start_process(queue: TaskQueue) -> asyncio.subprocess.Process:
    """Start a scheduler in a separate process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.ticks",
        env=os.environ | {"REDIS_URL": queue.url, "TASKFLEET_REDIS__KEY_PREFIX": queue.broker.prefix},
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=ends_with_this_process(),
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"started\n"
    return process


if __name__ == "__main__":
    asyncio.run(_run_scheduler())
