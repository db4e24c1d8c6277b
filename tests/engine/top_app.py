"""An application with priorities and limits, for `taskfleet top --app`."""

from __future__ import annotations

from taskfleet import QueueOptions, RateLimit, TaskQueue

queue = TaskQueue.from_config(
    queues=[
        QueueOptions(name="urgent", priority=10),
        QueueOptions(name="default", concurrency=2, rate_limit=RateLimit(tasks_per_second=50, burst=50)),
    ]
)
