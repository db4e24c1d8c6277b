"""`deletionPolicy: Purge` on a real API server and a real Redis: exactly this TaskQueue's keys, when it may."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from taskfleet import TaskQueue
from taskfleet.settings import RedisSettings, Settings
from taskfleet_operator.control.redis.purging import FINALIZER
from taskfleet_operator.scaling.overrides import ABANDON_PURGE
from tests.support.operator_space import Manifest, Space, until
from tests.support.process_node_fleet import OperatorProcesses
from tests.support.redis_server import RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def fill(url: str, prefix: str, queue_name: str, count: int) -> None:
    """Tasks that wait, one that is delayed, a schedule, and the result of a task that was cancelled."""

    async def send() -> None:
        settings = Settings(redis=RedisSettings(url=url, key_prefix=prefix))
        async with TaskQueue(settings=settings) as queue:

            @queue.task(queue=queue_name)
            async def nothing() -> None: ...

            await queue.enqueue_many([nothing.message() for _ in range(count)])
            await nothing.options(delay=3600).enqueue()
            await (await nothing.enqueue()).cancel()
            await queue.add_schedule(name=f"of-{queue_name}", schedule="@yearly", task=nothing)

    asyncio.run(send())


def keys(client: Any, prefix: str, queue_name: str) -> set[bytes]:
    """Of a queue, without the history that the operator begins of any queue that it sees."""
    found = set(client.scan_iter(match=f"{prefix}:{{{queue_name}}}:*", count=1000))
    return {key for key in found if not key.endswith(b"}:history")}


def purging(manifest: Manifest, *queues: str, name: str = "orders") -> Manifest:
    changed = copy.deepcopy(manifest)
    changed["metadata"]["name"] = name
    changed["spec"] |= {"deletionPolicy": "Purge", "queues": [{"name": queue} for queue in queues]}
    return changed


def finalizers(space: Space, name: str = "orders") -> list[str]:
    found: list[str] = space.get("tq", name).get("metadata", {}).get("finalizers", [])
    return found


def held(space: Space, name: str = "orders") -> None:
    until(lambda: finalizers(space, name) == [FINALIZER], "it has the finalizer", seconds=60)


def delete(space: Space, name: str = "orders") -> None:
    space("delete", "tq", name, "--wait=false")


def gone(space: Space, name: str = "orders") -> None:
    until(lambda: not space.get("tq", name), "it is gone", seconds=60)


def stopped_in_its_middle(client: Any, served: set[bytes]) -> None:
    """Let some writes through, and no more when some of these keys are gone: the next one waits in Redis."""

    def begun() -> bool:
        if client.exists(*served) < len(served):
            return True
        # All in one message, with a pause that Redis itself makes: this process may stand still between two.
        with client.pipeline(transaction=False) as moment:
            moment.execute_command("CLIENT", "UNPAUSE")
            moment.execute_command("BLPOP", "nothing", "0.001")
            moment.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
            moment.execute()
        return False

    until(begun, "the purge is under way", seconds=60)


def says(space: Space, reason: str) -> str:
    told = until(lambda: (one := space.condition("Purged")).get("reason") == reason and one, reason, seconds=60)
    assert told["status"] == "False"
    return str(told["message"])


def test_exactly_the_keys_of_its_queues_go_with_it(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    for queue_name in ("default", "second", "default2"):
        fill(redis_server.url, prefix, queue_name, 10)
    fill(redis_server.url, f"{prefix}2", "default", 10)
    stay = keys(client, prefix, "default2") | keys(client, f"{prefix}2", "default")
    assert len(keys(client, prefix, "default")) > 5
    space.apply(purging(manifest, "default", "second"))
    held(space)
    until(lambda: space.replicas() > 0, "there are workers to stop", seconds=60)
    delete(space)
    gone(space)
    assert keys(client, prefix, "default") == keys(client, prefix, "second") == set()
    assert not client.exists(*(f"{prefix}:{{{queue}}}:history" for queue in ("default", "second")))
    assert keys(client, prefix, "default2") | keys(client, f"{prefix}2", "default") == stay
    assert client.smembers(f"{prefix}:queues") == {b"default2"}


@pytest.mark.timeout(300)
def test_a_long_queue_goes_in_short_calls(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    slow: list[set[bytes]] = []
    for _ in range(3):
        fill(redis_server.url, prefix, "default", 50_000)
        space.apply(purging(manifest, "default"))
        held(space)
        until(lambda: space.replicas() > 0, "there are workers to stop", seconds=60)
        client.config_set("slowlog-log-slower-than", 20_000)  # µs
        client.slowlog_reset()
        began = time.monotonic()
        delete(space)
        gone(space)
        assert time.monotonic() - began < 60
        assert keys(client, prefix, "default") == set()
        slow.append({entry["command"][:60] for entry in client.slowlog_get(100)})
        if not slow[-1]:
            break
    # A busy machine lets any command wait. One that is long is long each time.
    assert set.intersection(*slow) == set()


def test_retain_takes_the_finalizer_away_and_leaves_the_keys(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    fill(redis_server.url, prefix, "default", 5)
    space.apply(purging(manifest, "default"))
    held(space)
    retained = purging(manifest, "default")
    retained["spec"]["deletionPolicy"] = "Retain"
    space.apply(retained)
    until(lambda: not finalizers(space), "the finalizer is gone", seconds=60)
    delete(space)
    gone(space)
    assert keys(client, prefix, "default")


def test_a_queue_that_another_taskqueue_serves_is_not_purged(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    fill(redis_server.url, prefix, "default", 5)
    other = copy.deepcopy(manifest)
    other["metadata"]["name"] = "other"
    space.apply(other)
    space.apply(purging(manifest, "default"))
    held(space)
    delete(space)
    assert f"queue default is also served by TaskQueue {space.name}/other" in says(space, "QueueShared")
    assert keys(client, prefix, "default")
    delete(space, "other")
    gone(space, "other")
    gone(space)
    assert not keys(client, prefix, "default")


def test_a_taskqueue_that_writes_the_address_differently_keeps_its_queue(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    """Another database, and a Redis that does not answer so that nobody knows whether it is this one."""
    fill(redis_server.url, prefix, "default", 5)
    for name, url in (
        ("other", f"redis://localhost:{redis_server.port}"),
        ("apart", f"redis://127.0.0.1:{redis_server.port}/1"),
        ("lost", "redis://127.0.0.1:1"),
    ):
        other = copy.deepcopy(manifest)
        other["metadata"]["name"] = name
        other["spec"]["redis"] |= {"url": url, "connectTimeoutSeconds": 1}
        space.apply(other)
    space.apply(purging(manifest, "default"))
    held(space)
    delete(space)
    until(lambda: "/lost, if its Redis is this one, which is not known" in says(space, "QueueShared"), "", seconds=60)
    space("delete", "tq", "lost")
    until(lambda: f"served by TaskQueue {space.name}/other:" in says(space, "QueueShared"), "", seconds=60)
    assert keys(client, prefix, "default")
    space("delete", "tq", "other")
    gone(space)
    assert not keys(client, prefix, "default")
    assert space.get("tq", "apart")


def test_two_that_are_deleted_together_are_both_purged(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    """As with their namespace: neither waits for the other, which waits for it."""
    for queue_name in ("mine", "default", "theirs"):
        fill(redis_server.url, prefix, queue_name, 5)
    space.apply(purging(manifest, "mine", "default"))
    space.apply(purging(manifest, "default", "theirs", name="other"))
    held(space)
    held(space, "other")
    space("delete", "tq", "--all", "--wait=false")
    gone(space)
    gone(space, "other")
    assert not any(keys(client, prefix, queue_name) for queue_name in ("mine", "default", "theirs"))


def test_a_worker_that_still_serves_the_queue_is_waited_for(
    operator: object, space: Space, manifest: Manifest, redis_server: RedisServer, prefix: str, client: Any
) -> None:
    fill(redis_server.url, prefix, "default", 5)
    now = int(client.time()[0] * 1000)
    client.hset(f"{prefix}:{{fleet}}:worker:laptop/0", mapping={"name": "laptop", "queues": "default", "slots": 1})
    client.zadd(f"{prefix}:{{fleet}}:workers", {"laptop/0": now})
    space.apply(purging(manifest, "default"))
    held(space)
    delete(space)
    until(
        lambda: "workers still serve its queues: laptop" in says(space, "WaitingForWorkers"), "it is named", seconds=60
    )
    assert keys(client, prefix, "default")
    client.delete(f"{prefix}:{{fleet}}:worker:laptop/0", f"{prefix}:{{fleet}}:workers")
    gone(space)
    assert not keys(client, prefix, "default")


def test_a_redis_that_does_not_answer_is_told_and_can_be_given_up(
    operator: object, space: Space, manifest: Manifest
) -> None:
    changed = purging(manifest, "default")
    changed["spec"]["redis"] |= {"url": "redis://127.0.0.1:1/0", "connectTimeoutSeconds": 1}
    space.apply(changed)
    held(space)
    delete(space)
    message = says(space, "RedisUnreachable")
    assert "127.0.0.1:1" in message
    assert f"annotate the TaskQueue with {ABANDON_PURGE}=true" in message
    assert finalizers(space) == [FINALIZER]
    patch = {"metadata": {"annotations": {ABANDON_PURGE: "true"}}}
    space("patch", "tq", "orders", "--type=merge", "-p", json.dumps(patch))
    gone(space)


def test_an_operator_that_is_killed_in_the_middle_of_a_purge_is_followed_by_one_that_ends_it(
    operators: OperatorProcesses,
    space: Space,
    manifest: Manifest,
    redis_server: RedisServer,
    prefix: str,
    client: Any,
) -> None:
    many = 20_000
    fill(redis_server.url, prefix, "default", many)
    for queue_name in ("second", "default2"):
        fill(redis_server.url, prefix, queue_name, 10)
    fill(redis_server.url, f"{prefix}2", "default", 10)
    stay = keys(client, prefix, "default2") | keys(client, f"{prefix}2", "default")
    contents = {key: client.dump(key) for key in stay}
    operators.start()
    space.apply(purging(manifest, "default", "second"))
    held(space)
    served = keys(client, prefix, "default") | keys(client, prefix, "second")
    client.client_pause(60_000, all=False)
    delete(space)
    stopped_in_its_middle(client, served)
    operators.kill()
    client.client_unpause()
    assert keys(client, prefix, "default") | keys(client, prefix, "second"), "it was killed in the middle"
    assert finalizers(space) == [FINALIZER], "the TaskQueue stays until all is gone"
    operators.start()
    gone(space)
    assert keys(client, prefix, "default") == keys(client, prefix, "second") == set()
    assert {key: client.dump(key) for key in stay} == contents
    assert client.smembers(f"{prefix}:queues") == {b"default2"}
