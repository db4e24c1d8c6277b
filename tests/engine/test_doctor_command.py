"""`taskfleet doctor` on the command line: exit codes, JSON, the question, rights, sealed tasks, and a Cluster."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet import TaskQueue, chain
from taskfleet.doctor import checkup
from taskfleet.protocol.item import Extras
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import acl
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue
from tests.engine.test_command import run
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import RedisCluster


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def lose_a_task(queue: TaskQueue) -> str:
    @queue.task
    async def note(n: int) -> int:
        return n

    handle = await note.enqueue(1)
    await redis_of(queue).delete(queue.broker.keys_of("default").ready)  # type: ignore[attr-defined]
    return handle.id


def redis_of(queue: TaskQueue) -> Any:
    return queue.broker.client.redis  # type: ignore[attr-defined]


async def test_it_looks_only_until_it_is_told_to_repair(shared: TaskQueue) -> None:
    task_id = await lose_a_task(shared)
    code, out, errors = await run("doctor")
    assert code == 1
    told = f"error: task-lost {task_id} of queue default: the task is stored and in no structure: it would never run"
    assert told in out.splitlines()
    assert "    repair: make it ready" in out.splitlines()
    assert errors.splitlines()[-1] == "1 invariant broken; --repair repairs what can be repaired"

    code, out, errors = await run("doctor", "--json")
    (item,) = [each for each in json.loads(out)["items"] if each["severity"] == "error"]
    assert (code, item.keys()) == (
        1,
        {"code", "severity", "queue", "subject", "what", "repair", "repairable"},
    )
    assert (item["code"], item["queue"], item["subject"], item["repairable"]) == ("task-lost", "default", task_id, True)

    code, _, errors = await run("doctor", "--repair")
    assert (code, errors.splitlines()[-1]) == (
        1,
        "taskfleet: Repair 1 invariant? Without a terminal nobody can answer; say yes with --yes",
    )
    assert (await shared.queue_stats("default")).ready == 0

    code, _, errors = await run("doctor", "--repair", "--yes")
    assert (code, errors.splitlines()[-1]) == (0, f"repaired: task-lost {task_id}: make it ready")
    assert (await shared.queue_stats("default")).ready == 1
    code, out, errors = await run("doctor")
    assert (code, errors.splitlines()[-1]) == (0, "no invariant is broken")
    assert "error: " not in out
    assert "warning: queue-unknown default: 1 task, and neither a worker nor the settings here know this queue" in out


async def test_what_cannot_be_repaired_is_told_and_stays(shared: TaskQueue) -> None:
    names = shared.broker.keys_of("default")  # type: ignore[attr-defined]
    await lose_a_task(shared)
    await redis_of(shared).hset(names.letter, "spoilt", b"\xc1")
    await redis_of(shared).zadd(names.dead, {"spoilt": 1})
    code, out, errors = await run("doctor", "--repair", "--yes")
    assert code == 1
    assert "    do: remove it with all others of the queue: taskfleet dead purge" in out.splitlines()
    assert errors.splitlines()[-1] == "taskfleet: 1 invariant left: see `taskfleet doctor`"
    assert (await shared.queue_stats("default")).ready == 1
    await shared.purge_dead("default")


@pytest.mark.orphans("another program uses a key of ours")
async def test_a_key_of_another_program_does_not_hide_the_other_queues(shared: TaskQueue) -> None:
    task_id = await lose_a_task(shared)
    names = shared.broker.keys_of("other")  # type: ignore[attr-defined]
    await redis_of(shared).sadd(shared.broker.fleet.queues, "other")  # type: ignore[attr-defined]
    await redis_of(shared).set(names.task, "x")
    code, out, _ = await run("doctor", "--json")
    found = {item["code"]: item for item in json.loads(out)["items"]}
    assert code == 1
    assert found["task-lost"]["subject"] == task_id
    assert f"key {names.task!r} holds a string" in found["key-foreign"]["what"]


async def test_a_task_that_waits_for_a_result_that_is_gone_stays(shared: TaskQueue) -> None:
    names = shared.broker.keys_of("default")  # type: ignore[attr-defined]

    @shared.task
    async def note(*numbers: int) -> int:
        return numbers[-1]

    last = await shared.enqueue(chain(note.options(delay=600).message(1), note.message(2)))
    (first,) = await redis_of(shared).zrange(names.delayed, 0, -1)
    for name in (names.task, names.tag):
        await redis_of(shared).hdel(name, first)
    await redis_of(shared).zrem(names.delayed, first)
    code, out, errors = await run("doctor", "--repair", "--yes")
    assert code == 1
    assert f"cannot be repaired: waits-for-nothing {last.id}" in errors
    assert "cancel a task that needs one: taskfleet task cancel" in out
    assert await last.status() == "blocked"
    assert await last.cancel()
    assert (await run("doctor"))[0] == 0


async def test_least_rights_get_one_line_and_the_rule_of_the_doctor_is_enough(own_server: RedisServer) -> None:
    async with TaskQueue(own_server.url) as queue:
        task_id = await lose_a_task(queue)
    own_server.call("ACL", "SETUSER", "p", "on", ">secret-of-p", *acl.rule("producer"))
    url = own_server.url.replace("redis://", "redis://p:secret-of-p@")
    code, out, errors = await run("doctor", "--redis", url)
    assert (code, out, len(errors.splitlines())) == (1, "", 1)
    assert "does not permit this to our user" in errors
    assert "secret-of-p" not in errors
    own_server.call("ACL", "SETUSER", "p", *acl.rule("doctor"))
    own_server.call("ACL", "LOG", "RESET")
    code, _, errors = await run("doctor", "--redis", url, "--repair", "--yes")
    assert (code, errors.splitlines()[-1]) == (0, f"repaired: task-lost {task_id}: make it ready")
    log = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in own_server.call("ACL", "LOG")]
    assert {entry[b"object"] for entry in log} <= {b"config|get"}, "it asks once whether snapshots are written"
    async with TaskQueue(own_server.url) as queue:
        await queue.purge("default")


async def test_the_server_is_judged(own_server: RedisServer) -> None:
    own_server.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "1mb", "save", "")
    code, out, _ = await run("doctor", "--redis", own_server.url, "--json")
    found = {item["code"]: item["what"] for item in json.loads(out)["items"]}
    assert code == 0, "dangers are warnings"
    assert found["eviction"] == "maxmemory-policy is allkeys-lru: a full Redis drops tasks"
    assert found["persistence"] == "AOF is off, and snapshots are off: a restart may lose all tasks"
    assert "of maxmemory is used" in found["memory"]
    own_server.call("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction", "appendonly", "yes")
    _, out, _ = await run("doctor", "--redis", own_server.url, "--json")
    assert json.loads(out)["items"] == []


async def test_sealed_tasks_need_no_key(make_queue: MakeQueue) -> None:
    sealing = make_queue(encryption_keys=[base64.b64encode(b"e" * 32).decode()])
    task_id = await lose_a_task(sealing)
    plain = RedisBroker.from_url(sealing.url, prefix=sealing.broker.prefix)  # type: ignore[attr-defined]
    found = (await checkup.look(plain, ["default"])).errors
    assert [(finding.code, finding.subject) for finding in found] == [("task-lost", task_id)]
    assert [outcome async for _, outcome in checkup.repair(plain, found)] == ["repaired"]
    assert (await checkup.look(plain, ["default"])).errors == []
    await plain.close()


async def test_partitions_of_a_cluster() -> None:
    with RedisCluster() as cluster:
        broker = RedisBroker.from_url(cluster.url, prefix="doctor")
        for number, partition in enumerate(map(Partition, ("q", "q/1", "q/2", "other"))):
            limited = (f"b{number}", b"x", 0, 0, Extras(limit_key="k"))
            await broker.enqueue(partition, [(f"a{number}", b"x", 0, 0, None), limited])
            await broker.client.redis.lrem(broker.keys_of(partition).ready, 0, f"a{number}")
            await broker.client.redis.set(broker.keys_of(partition).result("unknown"), "x")
        await broker.client.redis.srem(broker.fleet.queues, "q/2")
        found = (await checkup.look(broker, ["q", "other"])).errors
        assert sorted((each.code, each.queue) for each in found if each.code != "key-stays") == [
            ("queue-unlisted", "q/2"),
            *(("task-lost", partition) for partition in ("other", "q", "q/1", "q/2")),
        ]
        assert sum(each.code == "key-stays" for each in found) == 4
        assert {outcome async for _, outcome in checkup.repair(broker, found)} == {"repaired"}
        assert (await checkup.look(broker, ["q", "other"])).errors == []
        stats = await broker.stats_many(["q", "other"])
        assert (stats["q"].ready, stats["other"].ready) == (6, 2)
        await broker.close()


async def test_a_long_line_is_counted_when_it_stands_still(server: RedisServer) -> None:
    broker = RedisBroker.from_url(server.url, prefix=f"doctor-{secrets.token_hex(4)}")
    await broker.enqueue(Partition("q"), [(f"t{n}", b"x", 0, 0, None) for n in range(5000)])
    names = broker.keys_of("q")
    await broker.client.redis.hset(names.stat, "removed", 77)
    await broker.client.redis.lrem(names.ready, 0, "t2500")
    await broker.client.redis.rpush(names.ready, "t10")
    found = (await checkup.look(broker, ["q"])).errors
    assert sorted(each.code for each in found) == ["ready-twice", "removed-count", "task-lost"]
    for _ in range(2):  # the count is not set in a list that has just been repaired
        outcomes = [outcome async for _, outcome in checkup.repair(broker, found)]
        assert set(outcomes) <= {"repaired", "gone"}
        found = (await checkup.look(broker, ["q"])).errors
    assert found == []
    assert (await broker.stats_many(["q"]))["q"].ready == 5000
    await broker.purge_keys(["q"])
    await broker.close()
