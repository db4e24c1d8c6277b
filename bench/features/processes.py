"""The process task: a child process imports its function by name."""

from __future__ import annotations

import os

from taskfleet import TaskQueue

queue = TaskQueue(os.environ["REDIS_URL"], result_ttl=0)


@queue.task(executor="process")
def case(n: int) -> None:
    """The plain task, in a child process."""
