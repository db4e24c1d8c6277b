"""The shortest forms of the two most frequent calls do what the ordinary forms do, in whatever state a queue is.

Each state is made twice, under two prefixes: one gets the short form and one the ordinary form. Their replies and all
keys must be the same afterwards, but for the moment.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from typing import Any

import hiredis
import msgpack
import pytest
import redis.asyncio as redis_async
from redis.exceptions import ResponseError

from taskfleet import QueueOptions, TaskQueueError
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import keys, scripts
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import tasks
from taskfleet.redis.calls.tasks import AtOnce
from taskfleet.redis.keys import FleetKeys, QueueKeys
from tests.engine.conftest import MakeQueue
from tests.support.redis_server import RedisServer

pytestmark = pytest.mark.orphans("states of a queue are written by hand")
QUEUE = Partition("default")
FLEET = FleetKeys("fleet")
SLACK_MS = 60_000
_TIME = re.compile(rb"\d{13}|\xcf\x00\x00\x01.{5}", re.DOTALL)  # as text, and in messagepack
State = list[tuple[Any, ...]]  # the commands that make it, with `{name}` for a key


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[redis_async.Redis]:
    async with redis_async.Redis.from_url(server.url) as redis:
        await redis.script_load(scripts.STEP.source)
        await redis.script_load(scripts.ENQUEUE.source)
        yield redis


async def pair(redis: redis_async.Redis, state: State, seed: str) -> tuple[QueueKeys, QueueKeys]:
    """Two queues in this state."""
    both = keys.of_partition(f"short-{seed}", QUEUE), keys.of_partition(f"whole-{seed}", QUEUE)
    for names in both:
        places = {f"{{{part}}}": key for part, key in names._asdict().items()} | {"{sender}": names.sender("me")}
        await redis.delete(*[key async for key in redis.scan_iter(f"{names.base}*")], "nothing")
        for command in state:
            await redis.execute_command(*(places.get(part, part) for part in command))
    return both


async def left(redis: redis_async.Redis, names: QueueKeys) -> dict[str, Any]:
    """All keys of a queue with what they hold."""
    found: dict[str, Any] = {}
    async for key in redis.scan_iter(f"{names.base}*"):
        name = key.decode().removeprefix(names.base)
        match (await redis.type(key)).decode():
            case "string":
                found[name] = await redis.get(key)
            case "list":
                found[name] = await redis.lrange(key, 0, -1)
            case "set":
                found[name] = await redis.smembers(key)
            case "hash":
                found[name] = await redis.hgetall(key)
            case "zset":
                found[name] = dict(await redis.zrange(key, 0, -1, withscores=True))
        found[f"{name} expires"] = await redis.pttl(key) > 0
    return found


def alike(one: Any, other: Any) -> bool:
    """Whether they are equal, but for times that may differ by the moment of the call."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float) and not isinstance(one, bool):
        return one == other or (abs(one) > SLACK_MS and abs(one - other) < SLACK_MS)
    if isinstance(one, bytes) and isinstance(other, bytes):
        one, other = (_TIME.sub(b"time", one), _TIME.sub(b"time", other))
        return one == other or (len(one) == len(other) > 8 and one[8:] == other[8:])  # a stamped envelope
    return bool(one == other)


async def outcome(redis: redis_async.Redis, *command: Any) -> Any:
    try:
        return await redis.execute_command(*command)
    except ResponseError as error:
        return str(error)


def drawn(draw: random.Random, now: int) -> State:
    """A state of a queue: mostly what an idle queue has, with one or two things that are special."""
    ready = [f"r{n}" for n in range(draw.choice((0, 1, 1, 2, 3, 5, 99, 100, 101, 120)))]
    state: State = []
    for task_id in ready:
        state += [("RPUSH", "{ready}", task_id), ("HSET", "{task}", task_id, b"stamped!" + task_id.encode())]
    special: list[State] = [
        [("HSET", "{control}", "paused", 1)],
        [("HSET", "{control}", "large", 1)],
        [("LPUSH", "{ready}", "without-a-payload")],
        [("ZADD", "{delayed}", now - 1000, "due"), ("HSET", "{task}", "due", b"stamped!due")],
        [("ZADD", "{delayed}", now + 500_000, "later"), ("HSET", "{task}", "later", b"stamped!later")],
        [
            ("ZADD", "{lease}", now + 500_000, "runs"),
            ("HSET", "{owner}", "runs", "other:1"),
            ("HSET", "{task}", "runs", b"stamped!runs"),
        ],
        [
            ("ZADD", "{lease}", now - 1000, "left"),
            ("HSET", "{owner}", "left", "other:1"),
            ("HSET", "{task}", "left", b"stamped!left"),
        ],
        [("HSET", "{cancel}", "r0", 1)],
        [("HSET", "{meta}", "r0", f"2:3:1:{now - 5000}")],
        [("HSET", "{meta}", "another", f"2:3:1:{now - 5000}")],
        [("ZADD", "{fair}", 1, "r0")],
        [("HSET", "{owner}", "r0", "other:7")],
        [("RPUSH", "{wake}", 1)],
        [("HSET", "{stat}", "enqueued", "none")],
        [("HSET", "{progress}", "r0", b"stamped!50")],
        [("SADD", "{awaited}", "r0")],
        [("ZADD", "{dead}", now - 1000, "gone"), ("HSET", "{letter}", "gone", b"\xc1")],
    ]
    for some in draw.sample(special, draw.choice((0, 0, 1, 1, 2))):
        state.extend(some)
    return state


@pytest.mark.parametrize("seed", range(60))
async def test_a_claim_in_its_shortest_form_is_the_ordinary_claim(redis: redis_async.Redis, seed: int) -> None:
    draw = random.Random(seed)
    now = int((await redis.time())[0]) * 1000
    short, whole = await pair(redis, drawn(draw, now), f"step-{seed}")
    options = QueueOptions("default")
    slots = draw.choice((0, 1, 2, 10, 100, 150))
    replies = []
    for names in (short, whole):
        call = tasks.step(names, QUEUE, options, incarnation="me", slots=slots)
        args = [*call.args]
        if names is whole:
            assert args[9] == 0, "the rate limit"
            args[9] = "0.0"  # the short form does not know it
        replies.append(await outcome(redis, "EVALSHA", call.script.digest, len(call.keys), *call.keys, *args))
    assert alike(*replies), f"{replies}"
    found, expected = await left(redis, short), await left(redis, whole)
    assert found.keys() == expected.keys()
    for name in found:
        assert alike(found[name], expected[name]), name


@pytest.mark.parametrize("seed", range(60))
async def test_an_enqueue_in_its_shortest_form_is_the_ordinary_enqueue(redis: redis_async.Redis, seed: int) -> None:
    draw = random.Random(seed)
    now = int((await redis.time())[0]) * 1000
    state = drawn(draw, now)
    before = draw.choice((None, None, 6, 7, 8, 123, "no number"))
    if before is not None:
        reply = msgpack.packb([str(before), draw.choice(([1, [], 0], [0, [], 0], [-1, 5]))], use_bin_type=False)
        state.append(("SET", "{sender}", reply, "PX", 90_000))
    task_id = draw.choice(("new", "new", "r0", "due"))
    short, whole = await pair(redis, state, f"enqueue-{seed}")
    replies = []
    for names in (short, whole):
        if names is short:
            reader = hiredis.Reader()
            reader.feed(AtOnce(names, FLEET, QUEUE, "me").packed(7, task_id, b"envelope"))
            command = reader.gets()
        else:
            call = tasks.enqueue(
                names, FLEET, QUEUE, [(task_id, b"envelope", 0, 0, None)], max_length=0, total=1, sender="me", number=7
            )
            command = ["EVALSHA", call.script.digest, len(call.keys), *call.keys, *call.args]
        replies.append(await outcome(redis, *command))
    assert alike(*replies), f"{replies}"
    found, expected = await left(redis, short), await left(redis, whole)
    assert found.keys() == expected.keys()
    for name in found:
        assert alike(found[name], expected[name]), name


@pytest.mark.parametrize("part", ["task", "ready", "fair", "stat", "wake"])
@pytest.mark.parametrize("kind", ["string", "set"])
async def test_a_task_is_not_taken_for_added_when_a_key_is_of_another_program(
    redis: redis_async.Redis, make_queue: MakeQueue, part: str, kind: str
) -> None:
    queue = make_queue()

    @queue.task
    async def add(x: int) -> None: ...

    assert isinstance(queue.broker, RedisBroker)
    key = getattr(queue.broker.keys_of(QUEUE), part)
    await (redis.set(key, "theirs") if kind == "string" else redis.sadd(key, "theirs"))
    for _ in range(2):
        with pytest.raises(TaskQueueError, match=f"holds a {kind}, where we keep a"):
            await add.enqueue(1)
    await redis.delete(key)
    handle = await add.enqueue(1)
    assert await handle.status() == "ready"
    assert handle.id.encode() in await redis.lrange(queue.broker.keys_of(QUEUE).ready, 0, -1)


async def test_a_task_is_not_taken_for_added_by_a_user_without_a_right(
    redis: redis_async.Redis, make_queue: MakeQueue, server: RedisServer
) -> None:
    await redis.execute_command("ACL", "SETUSER", "old", "on", ">secret", "~*", "&*", "+@all", "-hsetnx")
    try:
        queue = make_queue(url=server.url.replace("redis://", "redis://old:secret@"))

        @queue.task
        async def add(x: int) -> None: ...

        assert await (await add.enqueue(1)).status() == "ready", "the ordinary call needs no such right"
    finally:
        await redis.execute_command("ACL", "DELUSER", "old")


async def test_the_shortest_forms_take_few_commands(redis: redis_async.Redis) -> None:
    """Else they are not the forms that were tried above."""
    ready: State = [("RPUSH", "{ready}", "r0"), ("HSET", "{task}", "r0", b"stamped!r0")]
    short, _ = await pair(redis, ready, "few")

    async def commands(*call: Any) -> int:
        await redis.config_resetstat()
        await redis.execute_command(*call)
        found = await redis.info("commandstats")
        return sum(one["calls"] for name, one in found.items() if "config" not in name and "info" not in name)

    call = tasks.step(short, QUEUE, QueueOptions("default"), incarnation="me", slots=10)
    assert await commands("EVALSHA", call.script.digest, len(call.keys), *call.keys, *call.args) == 10
    reader = hiredis.Reader()
    reader.feed(AtOnce(short, FLEET, QUEUE, "me").packed(7, "new", b"envelope"))
    assert await commands(*reader.gets()) == 11
