"""Tools for tests of applications: queues in memory, a clock that a test advances, a worker that runs until idle.

A pytest plugin has fixtures for them: docs/how-to/test-your-tasks.md.
"""

from __future__ import annotations

from taskfleet.memory.broker import InMemoryBroker
from taskfleet.memory.enqueued import EnqueuedTask
from taskfleet.memory.renewal import InMemoryRenewer
from taskfleet.testing.eager import eager
from taskfleet.testing.inline import InlineWorker
from taskfleet.testing.redis_worker import in_redis
from taskfleet.testing.swap import in_memory

__all__ = ["EnqueuedTask", "InMemoryBroker", "InMemoryRenewer", "InlineWorker", "eager", "in_memory", "in_redis"]
