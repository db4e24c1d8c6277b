"""Tests of applications: queues in memory, time that can be let pass, workers that run until nothing is left.

A pytest plugin brings all of it as fixtures: docs/how-to/test-your-tasks.md.
"""

from __future__ import annotations

from taskfleet.testing.broker import EnqueuedTask, InMemoryBroker, InMemoryRenewer

__all__ = ["EnqueuedTask", "InMemoryBroker", "InMemoryRenewer"]
