"""CPU-bound tasks: the same function in processes and in threads, and one that never ends by itself."""

from __future__ import annotations

import os

from taskfleet import TaskQueue, current_task

queue = TaskQueue.from_config()


def count_primes(start: int, stop: int) -> int:
    """How many primes there are from `start` to `stop - 1`, by trial division: nothing but computation."""
    found = 0
    for number in range(max(start, 2), stop):
        divisor = 2
        while divisor * divisor <= number and number % divisor:
            divisor += 1
        found += divisor * divisor > number
    return found


# A plain function runs in a thread by default, and threads share one interpreter. With `executor="process"` it runs in
# a process of its own. One function may be several tasks.
in_thread = queue.task(name="primes_in_thread")(count_primes)
in_process = queue.task(name="primes_in_process", executor="process")(count_primes)


@queue.task(executor="process", timeout=3, max_retries=0)
def count_forever() -> None:
    """Nothing interrupts a thread in such a loop. The timeout ends the process."""
    current_task().progress_sync(0, note=str(os.getpid()))
    while True:
        pass
