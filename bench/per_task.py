"""What a plain task costs: bytes in Redis while it waits, commands and time of Redis, and time of the client.

`python -m bench.per_task`; with another checkout first in `PYTHONPATH` it measures that one. Commands and bytes are
exact; the times of two checkouts are compared by alternating runs.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from tests.support.redis_server import RedisServer

from taskfleet import QueueOptions, TaskQueue
from taskfleet.protocol.partitions import Partition

_TASKS, _SINGLE, _SLOTS, _ROUNDS = 100_000, 2000, 100, 7
_HERE = Partition("default")


async def _figures(queue: TaskQueue, redis: Any) -> dict[str, float]:
    @queue.task
    async def note(n: int) -> None: ...

    async def used() -> tuple[float, float]:
        """Commands and microseconds of Redis inside scripts, since the last reset."""
        stats = await redis.info("commandstats")
        inside = {name: s for name, s in stats.items() if not name.endswith(("evalsha", "eval", "info"))}
        return sum(s["calls"] for s in inside.values()), stats["cmdstat_evalsha"]["usec"]

    await redis.flushdb()
    await note.enqueue(0)
    await queue.purge("default")
    messages = [note.message(n) for n in range(_TASKS)]
    await redis.config_resetstat()
    memory, began = (await redis.info("memory"))["used_memory"], time.process_time()
    await queue.enqueue_many(messages)
    client = time.process_time() - began
    grown = (await redis.info("memory"))["used_memory"] - memory
    commands, micros = await used()
    found = {
        "waiting: bytes of Redis": grown / _TASKS,
        "enqueue_many: commands": commands / _TASKS,
        "enqueue_many: us of Redis": micros / _TASKS,
        "enqueue_many: us of the client": client * 1e6 / _TASKS,
    }
    await redis.config_resetstat()
    began = time.process_time()
    outcomes: list[Any] = []
    left = _TASKS
    while left or outcomes:
        reply = await queue.broker.step(_HERE, QueueOptions("default"), "worker", _SLOTS, outcomes)
        outcomes = [(task_id, delivery, "s", 1, b"", 0, 0) for _, task_id, _, _, delivery, *_ in reply.claims]
        left -= len(outcomes)
    client = time.process_time() - began
    commands, micros = await used()
    found |= {
        "claim and success: commands": commands / _TASKS,
        "claim and success: us of Redis": micros / _TASKS,
        "claim and success: us of the client": client * 1e6 / _TASKS,
    }
    await redis.config_resetstat()
    began = time.process_time()
    for n in range(_SINGLE):
        await note.enqueue(n)
    client = time.process_time() - began
    commands, micros = await used()
    return found | {
        "single enqueue: commands": commands / _SINGLE,
        "single enqueue: us of Redis": micros / _SINGLE,
        "single enqueue: us of the client": client * 1e6 / _SINGLE,
    }


async def _rounds(url: str) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for _ in range(_ROUNDS):
        async with TaskQueue(url) as queue:
            broker: Any = queue.broker
            found.append(await _figures(queue, broker.client.redis))
    return found


def main() -> None:
    """Prints the median and the least of several rounds."""
    with RedisServer() as server:
        rounds = asyncio.run(_rounds(server.url))
    for name in rounds[0]:
        column = [figures[name] for figures in rounds]
        print(f"{name:38} median {statistics.median(column):9.3f}   least {min(column):9.3f}")


if __name__ == "__main__":
    main()
