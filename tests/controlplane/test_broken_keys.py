"""Keys that another program has replaced: the TaskQueue that needs them says so, and the others are scaled on."""

from __future__ import annotations

import asyncio
import copy

from redis.asyncio import Redis

from tests.controlplane.test_schedules import NIGHTLY, with_schedules
from tests.support.operator_space import Manifest, Space, enqueue, until
from tests.support.redis_server import RedisServer


def run(redis_server: RedisServer, *command: str) -> None:
    async def send() -> None:
        async with Redis.from_url(redis_server.url) as redis:
            await redis.execute_command(*command)

    asyncio.run(send())


def test_one_broken_queue_leaves_the_others_of_its_redis_alone(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str
) -> None:
    broken = with_schedules(manifest, NIGHTLY | {"queue": "broken", "name": "weekly"})
    broken["metadata"]["name"] = "broken"
    broken["spec"]["queues"] = [copy.deepcopy(manifest["spec"]["queues"][0]) | {"name": "broken"}]
    for part in ("ready", "schedules"):
        run(redis_server, "SET", f"{prefix}:{{broken}}:{part}", "x")
    run(redis_server, "SADD", f"{prefix}:queues", "broken")
    space.apply(broken)
    space.apply(with_schedules(manifest, NIGHTLY))

    def told(name: str, kind: str) -> dict[str, str]:
        conditions = space.get("tq", name).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    for kind, part in (("RedisReachable", "ready"), ("SchedulesReady", "schedules")):
        until(lambda kind=kind: told("broken", kind).get("status") == "False", "it is told", seconds=60)
        assert f"key '{prefix}:{{broken}}:{part}' holds a string" in told("broken", kind)["message"]
    until(lambda: told("orders", "SchedulesReady").get("reason") == "InSync", "the other's schedules", seconds=60)
    enqueue(redis_server, prefix, 1)
    until(lambda: space.replicas() == 1, "the other is scaled", seconds=60)
    until(lambda: told("orders", "RedisReachable").get("status") == "True", "and its status says so", seconds=60)

    for part in ("ready", "schedules"):
        run(redis_server, "DEL", f"{prefix}:{{broken}}:{part}")
    until(lambda: told("broken", "RedisReachable").get("status") == "True", "it heals", seconds=60)
    until(lambda: told("broken", "SchedulesReady").get("status") == "True", "its schedules, too", seconds=90)
