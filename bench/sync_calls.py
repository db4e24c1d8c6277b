"""The cost of a call without an event loop, beside the same call awaited: `python -m bench.sync_calls`."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

from tests.support.redis_server import RedisServer

from taskfleet import TaskQueue

_CALLS, _ROUNDS, _THREADS = 3000, 5, 32


def main() -> None:
    """Rounds alternate, so that both forms meet the same machine; the medians are printed."""
    with RedisServer() as server:
        queue = TaskQueue(server.url)

        @queue.task
        async def note(n: int) -> None: ...

        async def awaited() -> float:
            async with queue:
                message = note.message(0)
                await queue.send(message)
                began = time.perf_counter()
                for _ in range(_CALLS):
                    await queue.send(message)
                return (time.perf_counter() - began) / _CALLS * 1e6

        def plain(calls: int = _CALLS) -> float:
            began = time.perf_counter()
            for n in range(calls):
                note.enqueue_sync(n)
            return (time.perf_counter() - began) / calls * 1e6

        plain(100)
        rounds = [(asyncio.run(awaited()), plain()) for _ in range(_ROUNDS)]
        loop, sync = (statistics.median(figures) for figures in zip(*rounds, strict=True))
        threads = [threading.Thread(target=plain, args=(_CALLS // _THREADS,)) for _ in range(_THREADS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        together = (time.perf_counter() - began) / (_CALLS // _THREADS * _THREADS) * 1e6
        print(f"await enqueue(): {loop:.0f} us a call")
        print(f"enqueue_sync(): {sync:.0f} us a call, {sync / loop:.2f} times as long")
        print(f"enqueue_sync() from {_THREADS} threads: {together:.0f} us a call, {together / loop:.2f} times as long")


if __name__ == "__main__":
    main()
