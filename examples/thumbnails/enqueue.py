"""Enqueue thumbnails of every photograph in several widths; with --verify, wait for every result and check it.

The program prints one line of JSON. It exits with 1 when a task has failed, or has a wrong result or none.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter

from taskfleet import BrokerConnectionError, ResultTimeoutError, TaskExecutionError, TaskNotFoundError
from taskfleet.handles import TaskHandle

from thumbnails import photos
from thumbnails.tasks import Thumbnail, make_thumbnail, queue

_WIDTHS = (64, 96, 128, 160, 192, 256)
_WAITERS = 32  # number of results awaited at the same time
_RETRY_SECONDS = 0.5


async def enqueue(tasks: int) -> list[tuple[str, int, TaskHandle[Thumbnail]]]:
    """Send the tasks in one call; return photograph, width in pixels and handle of each."""
    wanted = list(itertools.islice(itertools.cycle(itertools.product(photos.NAMES, _WIDTHS)), tasks))
    handles = await queue.enqueue_many([make_thumbnail.message(photo, width) for photo, width in wanted])
    return [(photo, width, handle) for (photo, width), handle in zip(wanted, handles, strict=True)]


async def outcome_of(photo: str, width: int, handle: TaskHandle[Thumbnail], deadline: float) -> str:
    """`succeeded`, `failed`, `wrong` or `lost`. Tolerates a restart of Redis in the meantime."""
    while True:
        try:
            result = await handle.result(timeout=max(0.1, deadline - time.monotonic()))
            return "succeeded" if (result.photo, result.width) == (photo, width) else "wrong"
        except BrokerConnectionError:
            if time.monotonic() > deadline:
                return "lost"
            await asyncio.sleep(_RETRY_SECONDS)
        except TaskNotFoundError:
            return "lost"
        except ResultTimeoutError:
            return "lost"
        except TaskExecutionError:
            return "failed"


async def verify(sent: list[tuple[str, int, TaskHandle[Thumbnail]]], timeout: float) -> Counter[str]:
    """Count the outcomes of the tasks, for at most `timeout` seconds. A task has one record, found by its id."""
    deadline = time.monotonic() + timeout
    limit = asyncio.Semaphore(_WAITERS)

    async def check(photo: str, width: int, handle: TaskHandle[Thumbnail]) -> str:
        async with limit:
            return await outcome_of(photo, width, handle, deadline)

    outcomes = Counter(await asyncio.gather(*(check(*one) for one in sent)))
    # If two handles had the same id, one task's result would hide the other task.
    outcomes["lost"] += len(sent) - len({handle.id for *_, handle in sent})
    return outcomes


async def main(tasks: int, wait: bool, timeout: float) -> int:
    started = time.monotonic()
    sent = await enqueue(tasks)
    summary: dict[str, int | float] = {"enqueued": len(sent)}
    complete = True
    if wait:
        outcomes = await verify(sent, timeout)
        summary |= {name: outcomes[name] for name in ("succeeded", "failed", "wrong", "lost")}
        complete = outcomes["succeeded"] == len(sent) and not outcomes["lost"]
    print(json.dumps(summary | {"seconds": round(time.monotonic() - started, 3)}), flush=True)
    await queue.close()
    return 0 if complete else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--verify", action="store_true", help="wait for all results and check each")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds --verify waits (default: 900)")
    options = parser.parse_args()
    try:
        sys.exit(asyncio.run(main(options.tasks, options.verify, options.timeout)))
    except BrokerConnectionError as error:
        sys.exit(f"enqueue.py: {error}")
