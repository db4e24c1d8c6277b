"""The queue of an application at another Redis than its code names."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskfleet.queue import TaskQueue
    from taskfleet.settings import RedisSettings


@contextlib.contextmanager
def redirected(queue: TaskQueue, url: str) -> Generator[None]:
    """Inside the block the application's queue is at `url`, wherever its code has put it."""
    if not url:
        yield
        return
    from taskfleet.brokers import broker_at

    application = queue.application
    most = max(application.max_payload_bytes, application.max_result_bytes)
    broker = broker_at(None, at(queue.settings.redis, url), stored_limit_bytes=most)
    with queue.sessions.on(broker):
        yield


def at(redis: RedisSettings, url: str) -> RedisSettings:
    """These settings for the Redis at `url`. The login of another Redis is not sent to one whose URL has its own."""
    elsewhere: dict[str, Any] = {"url": url, "sentinel_addresses": (), "sentinel_master": "", "cluster_addresses": ()}
    if "@" in url:
        elsewhere |= {"username": None, "password": None, "password_file": None}
    return redis.model_copy(update=elsewhere)
