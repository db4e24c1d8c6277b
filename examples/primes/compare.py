"""Count the primes below a number by tasks in threads, then in processes; and end a task that would never end."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from itertools import pairwise

from taskfleet import Progress, RunTimeoutError, TaskFunction, TaskHandle, TaskQueueError

from primes import count_forever, in_process, in_thread, queue

PARTS = 16


async def count(task: TaskFunction[[int, int], int, int], below: int) -> tuple[int, float]:
    """Count in parts of about the same work; returns the number of primes, and how many seconds that took."""
    # The work for a number grows with its square root, so later parts are shorter.
    edges = [round(below * (part / PARTS) ** (2 / 3)) for part in range(PARTS + 1)]
    started = time.perf_counter()
    handles = await queue.enqueue_many([task.message(*part) for part in pairwise(edges)])
    primes = sum([await handle.result(timeout=300) for handle in handles])
    return primes, time.perf_counter() - started


async def first_report(handle: TaskHandle[None]) -> Progress | None:
    """`None` when the task has ended before its report was seen, on a machine that stood still meanwhile."""
    while await handle.status() != "failed":
        if (report := await handle.progress()) is not None:
            return report
        await asyncio.sleep(0.05)
    return None


async def end_a_process() -> None:
    """Its timeout ends the process of a task, wherever in its code that is."""
    while True:
        handle = await count_forever.enqueue()
        if (report := await first_report(handle)) is not None:
            break
    try:
        await handle.result(timeout=60)
    except RunTimeoutError as error:
        print(error)
    try:
        os.kill(int(report.note), 0)  # signal 0 asks whether the process exists
    except ProcessLookupError:
        print(f"its process {report.note} is gone")
    else:
        sys.exit(f"its process {report.note} still runs")


async def main(below: int) -> None:
    async with queue:
        await count(in_process, 1000)  # starts the processes, which takes most of a second
        primes, threads = await count(in_thread, below)
        print(f"in threads: {primes} primes below {below} in {threads:.2f} s", flush=True)
        primes, processes = await count(in_process, below)
        print(f"in processes: {primes} primes below {below} in {processes:.2f} s", flush=True)
        print(f"processes are {threads / processes:.1f} times as fast as threads, on {os.cpu_count()} cores")
        await end_a_process()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--below", type=int, default=500_000, help="count the primes below this (default: 500000)")
    try:
        asyncio.run(main(parser.parse_args().below))
    except TaskQueueError as error:
        sys.exit(f"compare.py: {error}")
