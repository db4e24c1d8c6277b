"""Tests of applications: queues in memory, time that can be let pass, a worker that runs until nothing is left.

A pytest plugin brings them as fixtures: docs/how-to/test-your-tasks.md.
"""

from __future__ import annotations

from taskfleet.memory.broker import EnqueuedTask, InMemoryBroker, InMemoryRenewer
from taskfleet.testing.inline import InlineWorker
from taskfleet.testing.swap import in_memory

__all__ = ["EnqueuedTask", "InMemoryBroker", "InMemoryRenewer", "InlineWorker", "in_memory"]
