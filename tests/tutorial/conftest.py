"""A real Valkey, and queues with a fresh key prefix, for the pages of the tutorial."""

from __future__ import annotations

from tests.engine.conftest import MakeQueue, make_queue, no_orphans, queue, queues_url, redis_url, server

__all__ = ["MakeQueue", "make_queue", "no_orphans", "queue", "queues_url", "redis_url", "server"]
