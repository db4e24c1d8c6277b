"""`TaskQueue` and `Worker` are roots: they hold their parts, and no part holds one of them, also through others."""

from __future__ import annotations

import asyncio
import gc
from types import BuiltinFunctionType, CodeType, CoroutineType, FrameType, FunctionType, ModuleType
from typing import Any

from taskfleet import BatchItem, TaskQueue
from taskfleet.process.metrics import WorkerCollector
from taskfleet.runtime.worker import Worker
from taskfleet.tasks.origin import Origin

# Objects that the walk does not enter: an event loop, its tasks and its coroutines belong to the program, and the
# origin of a task has the globals of the module that defined it.
NOT_ENTERED = (
    type, ModuleType, FrameType, CodeType, CoroutineType, BuiltinFunctionType, asyncio.AbstractEventLoop,
    asyncio.Future, asyncio.Handle, Origin,
)  # fmt: skip


def way_to(root: object, part: object) -> str:
    """The types on a way of references from a part to the root; empty when there is none."""
    before: dict[int, object] = {id(part): None}
    found = [part]  # keeps every object alive, so that no id is used twice
    for holder in found:
        for held in _held_by(holder):
            if id(held) in before or isinstance(held, NOT_ENTERED):
                continue
            before[id(held)] = holder
            if held is root:
                return _way(held, before)
            found.append(held)
    return ""


def _held_by(holder: object) -> list[Any]:
    if isinstance(holder, FunctionType):  # without its globals
        return [*(holder.__closure__ or ()), *(holder.__defaults__ or ()), *(holder.__kwdefaults__ or {}).values()]
    return gc.get_referents(holder)


def _way(held: object, before: dict[int, object]) -> str:
    names: list[str] = []
    while held is not None:
        names.append(type(held).__name__)
        held = before[id(held)]
    return " → ".join(reversed(names))


def ways_to(root: object, holder: object, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """The parts of `holder` that reach the root, each with the way."""
    parts = {name: part for name, part in vars(holder).items() if name not in but}
    return {name: way for name, part in parts.items() if (way := way_to(root, part))}


async def test_no_part_of_a_worker_or_queue_holds_its_root() -> None:
    queue = TaskQueue("memory://roots")

    @queue.task
    async def double(number: int) -> int:
        return 2 * number

    @queue.batch_task(size=2, window_ms=10)
    async def double_all(numbers: list[BatchItem]) -> list[int]:
        return [2 * item.args[0] for item in numbers]

    worker = Worker(queue)
    running = asyncio.create_task(worker.run())
    assert await (await double.enqueue(2)).result() == 4
    assert await (await double_all.enqueue(3)).result() == 6
    await queue.start_scheduler()
    assert len(vars(worker)) > 30  # the parts are there
    assert ways_to(worker, worker) == {}
    assert ways_to(queue, worker) == {}
    assert ways_to(queue, queue) == {}
    assert way_to(worker, [worker.drain])  # the walk finds a root behind a bound method
    assert way_to(worker, WorkerCollector.of(worker)) == ""
    worker.drain()
    await running
    await queue.close()


def test_a_held_root_is_found() -> None:
    class Part:
        def __init__(self, call: object) -> None:
            self.call = call

    class Root:
        def __init__(self) -> None:
            self.bound = Part(self.work)
            self.closed_over = Part(lambda: self)
            self.free = Part(print)

        def work(self) -> None: ...

    root = Root()
    assert ways_to(root, root) == {"bound": "Part → method → Root", "closed_over": "Part → function → cell → Root"}
