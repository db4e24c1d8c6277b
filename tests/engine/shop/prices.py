from __future__ import annotations

from taskfleet import TaskQueue

queue = TaskQueue.from_config()


@queue.task(queue="prices")
def double(price: int) -> int:
    return 2 * price
