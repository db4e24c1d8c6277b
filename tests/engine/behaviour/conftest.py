"""Every test here runs twice: in Redis and in memory."""

from __future__ import annotations

import secrets

import pytest


@pytest.fixture(params=["redis", "memory"])
def queues_url(request: pytest.FixtureRequest) -> str:
    """Where the queues of a test are kept."""
    if request.param == "memory":
        return f"memory://test-{secrets.token_hex(6)}"
    return str(request.getfixturevalue("redis_url"))
