"""The worker is the root of its parts: a part is given the parts that it uses, and none holds the worker."""

from __future__ import annotations

import asyncio
import gc
import types
from typing import Any

from taskfleet import TaskQueue
from taskfleet.process.metrics import WorkerCollector
from taskfleet.runtime.worker import Worker
from tests.engine.conftest import RunWorker

# Nothing that is reached through these is the part's own.
_ELSEWHERE = (type, types.ModuleType, types.FrameType, asyncio.AbstractEventLoop, asyncio.Future)


def _holds(part: Any, wanted: object) -> bool:
    """Whether `wanted` can be reached from a part: through attributes, containers, bound methods and closures."""
    seen: set[int] = set()
    waiting = [part]
    while waiting:
        thing = waiting.pop()
        if thing is wanted:
            return True
        if id(thing) in seen or isinstance(thing, _ELSEWHERE):
            continue
        seen.add(id(thing))
        if isinstance(thing, types.FunctionType):
            waiting.extend(cell.cell_contents for cell in thing.__closure__ or ())  # not its module's globals
        else:
            waiting.extend(gc.get_referents(thing))
    return False


def _parts(worker: Worker) -> dict[str, Any]:
    return {name: part for name, part in vars(worker).items() if type(part).__module__.startswith("taskfleet.runtime.")}


async def test_no_part_of_a_worker_holds_the_worker(queue: TaskQueue, run_worker: RunWorker) -> None:
    @queue.task
    async def task() -> int:
        return 1

    worker = await run_worker(queue)
    assert await (await task.enqueue()).result(timeout=10) == 1
    assert _holds([lambda: worker.drain], worker)  # the search would find it
    parts = _parts(worker)
    assert len(parts) > 25
    holding = [name for name, part in parts.items() if _holds(part, worker)]
    assert holding == []


async def test_neither_metrics_nor_probes_hold_the_worker(queue: TaskQueue, run_worker: RunWorker) -> None:
    worker = await run_worker(queue)
    assert not _holds(WorkerCollector.of(worker), worker)
