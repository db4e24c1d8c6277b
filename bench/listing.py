"""Listing and searching a queue of a million tasks: `python -m bench.listing`."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

from tests.support.redis_server import RedisServer

from taskfleet import TaskQueue
from taskfleet.protocol.status import Status

_TASKS, _AT_ONCE, _PAGES, _SLOW_US = 1_000_000, 50_000, 200, 1000


async def _measure(url: str) -> None:
    async with TaskQueue(url) as queue:
        broker: Any = queue.broker
        redis = broker.client.redis
        await redis.config_set("slowlog-log-slower-than", _SLOW_US)

        @queue.task
        async def note(n: int, text: str) -> None: ...

        for state, task in (("ready", note), ("delayed", note.options(delay=6000))):
            for start in range(0, _TASKS, _AT_ONCE):
                await queue.enqueue_many(
                    [task.message(n, "some words to be searched") for n in range(start, start + _AT_ONCE)]
                )
            await redis.slowlog_reset()
            cursor, times = None, list[float]()
            for _ in range(_PAGES):
                began = time.perf_counter()
                page = await queue.list_tasks("default", state=cast("Status", state), cursor=cursor)
                times.append(time.perf_counter() - began)
                cursor = page.cursor
            times.sort()
            print(f"{state}: a page of 50 takes {1000 * times[_PAGES // 2]:.1f} ms, at most {1000 * times[-1]:.0f} ms")
            began = time.perf_counter()
            page = await queue.search_tasks("nothing like this", "default", state=cast("Status", state))
            seconds = time.perf_counter() - began
            print(f"{state}: a search looks at {page.examined} tasks in {1000 * seconds:.0f} ms")
            slow = [entry["duration"] for entry in await redis.slowlog_get(100)]
            print(f"{state}: calls of Redis over {_SLOW_US} us: {len(slow)}, the longest {max(slow, default=0)} us")
            await queue.purge("default")


def main() -> None:
    """Prints the time of pages and of a search, and the longest calls of Redis."""
    with RedisServer() as server:
        asyncio.run(_measure(server.url))


if __name__ == "__main__":
    main()
