"""A Redis for the pages, which is emptied for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def empty_redis(server: RedisServer) -> str:
    server.call("FLUSHALL")
    return server.url
