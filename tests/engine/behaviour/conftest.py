"""Every test in this folder runs twice: in Redis and in memory."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture(params=["redis", "memory"])
def queues_url(request: pytest.FixtureRequest) -> str:
    """The store of the test's queues: Redis or memory."""
    if request.param == "memory":
        return f"memory://test-{secrets.token_hex(6)}"
    return str(request.getfixturevalue("redis_url"))
