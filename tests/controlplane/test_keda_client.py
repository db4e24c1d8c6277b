"""`taskfleet keda-scaler`, called by the gRPC client that KEDA itself uses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from e2e.cluster import binaries
from e2e.cluster.errors import ClusterError

from tests.engine.test_keda_scaler import METADATA, enqueue, scaling
from tests.support import requirements
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer


@pytest.mark.timeout(600)  # the first run builds the client
async def test_kedas_own_client_is_told_of_work(redis_server: RedisServer, pytestconfig: pytest.Config) -> None:
    try:
        client = binaries.ensure("keda-client")["keda-client"]
    except ClusterError as missing:
        requirements.cannot_run(pytestconfig, "control plane", str(missing))
    port = free_port()
    metadata = METADATA | {"keyPrefix": "kedas-client", "pollIntervalSeconds": "600"}
    with scaling(redis_server.url, port):
        calls = await asyncio.create_subprocess_exec(
            client, f"127.0.0.1:{port}", json.dumps(metadata), stdout=asyncio.subprocess.PIPE
        )
        assert calls.stdout is not None
        said: list[Any] = [json.loads(await calls.stdout.readline()) for _ in range(4)]
        assert said == [
            {"spec": {"name": "taskfleet-replicas", "target": 1}},
            {"value": {"name": "taskfleet-replicas", "value": 0}},
            {"active": False},
            {"pushed": False},
        ]
        await enqueue(redis_server.url, "kedas-client", 3)
        assert json.loads(await calls.stdout.readline()) == {"pushed": True}
        assert await calls.wait() == 0
