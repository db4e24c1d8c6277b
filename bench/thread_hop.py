"""What a call in a thread costs, by hand: `python -m bench.thread_hop`.

The threads of a worker beside the interpreter's own ways, on one event loop: the processor time of the whole process
per call of an empty function. The ways take turns in short rounds, so that a busy machine slows all of them.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import uvloop

from taskfleet.runtime.executors.threads import Threads

_AT_ONCE = (1, 100)
_ROUNDS = 60
_CALLS = 400  # in one round


def _empty(n: int) -> None: ...


async def _cpu_us(call: Callable[[], Awaitable[None]], at_once: int) -> float:
    """Processor time per call, with so many under way at once."""

    async def caller() -> None:
        for _ in range(_CALLS // at_once):
            await call()

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    return (time.process_time() - before) / (_CALLS // at_once * at_once) * 1e6


async def main() -> None:
    threads = Threads()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(max(_AT_ONCE)))

    async def ours() -> None:
        await threads.call(_empty, [1], {})

    async def in_executor() -> None:
        await loop.run_in_executor(None, _empty, 1)

    async def to_thread() -> None:
        await asyncio.to_thread(_empty, 1)

    ways = {"a worker's threads": ours, "loop.run_in_executor": in_executor, "asyncio.to_thread": to_thread}
    for at_once in _AT_ONCE:
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(_ROUNDS):
            for name, way in ways.items():
                found[name].append(await _cpu_us(way, at_once))
        for name, figures in found.items():
            print(f"{name:22}{at_once:5} at once: {statistics.median(figures):6.1f} µs per call")
    threads.close()


if __name__ == "__main__":
    uvloop.run(main())
