"""The least rights of a Redis user: with them everything works, and each of them is needed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from redis.commands.core import CoreCommands

from taskfleet import BrokerConnectionError, Retry, TaskQueue, chain, history
from taskfleet.cancellation import end
from taskfleet.errors import ReplyTooLargeError
from taskfleet.protocol.partitions import Partition
from taskfleet.redis import acl, scripts
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls import schedules as schedule_calls
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer

OPTIONS: list[dict[str, Any]] = [
    {
        "name": "default", "lease_seconds": 30, "concurrency_per_key": 1,
        "rate_limit_per_key": {"tasks_per_second": 1000, "burst": 10},
        "rate_limit": {"tasks_per_second": 1000, "burst": 1000}, "dead_letter": {"max_length": 2},
    },
    "other",
]  # fmt: skip
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def user(guarded: RedisServer, make_queue: MakeQueue) -> Callable[..., TaskQueue]:
    """Make a queue whose user has the rule of a role, with `changes` to the rule."""

    def make(role: acl.Role, *changes: str, prefix: str = "app") -> TaskQueue:
        guarded.call("ACL", "SETUSER", role, "on", "nopass", *acl.rule(role, prefix), *changes)
        login = {"username": role, "password": "any", "key_prefix": "app", "command_timeout": 60.0}
        return make_queue(guarded.url, redis=login, queues=OPTIONS)

    return make


def define(queue: TaskQueue) -> dict[str, Any]:
    """Define the same tasks for producers and workers. `held` ends when `release` is set."""
    release = asyncio.Event()

    @queue.task
    async def double(n: int) -> int:
        return 2 * n

    @queue.task(max_retries=1, retry=Retry.fixed(0.05))
    async def fail() -> None:
        raise ValueError("no")

    @queue.task
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @queue.task
    async def held() -> None:
        await release.wait()

    @queue.task(queue="other")
    async def elsewhere(n: int) -> int:
        return n

    return {"double": double, "fail": fail, "sleep": sleep, "held": held, "elsewhere": elsewhere, "release": release}


async def test_each_role_does_all_of_its_work_under_its_rule_and_uses_all_of_it(
    guarded: RedisServer, user: Callable[..., TaskQueue], run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer, worker, operator = user("producer"), user("worker"), user("operator")
    tasks = define(producer)
    release = define(worker)["release"]
    double, fail, sleep, elsewhere = tasks["double"], tasks["fail"], tasks["sleep"], tasks["elsewhere"]

    # Without a worker: waiting tasks, and the ways to end them.
    await double.enqueue(0)
    later = await double.options(delay=60).enqueue(0)
    assert await later.status() == "delayed"
    assert await later.cancel()
    await double.options(unique_key="u", delay=60).enqueue(1)
    await double.options(unique_key="u", unique_mode="replace").enqueue(2)
    blocked = await producer.enqueue(chain(double.message(1), double.message()))
    assert len((await blocked.info()).waits_for) == 1
    for key in "aab":
        await double.options(fair_key=key).enqueue(1)
    assert (await operator.get_metrics())["default"].ready == 5
    await operator.pause("default")
    await operator.resume("default")
    assert await operator.purge("default") == 7
    assert await blocked.status() in ("cancelled", "unknown")

    assert await producer.list_schedules() == []
    assert await (await double.options(expires=0.001).enqueue(1)).status() == "ready"
    assert await operator.purge("default") == 1

    # With a worker.
    running = await run_worker(worker, concurrency=3)
    assert (
        await (await producer.enqueue(chain(double.message(1), double.message(), elsewhere.message()))).result(
            timeout=60
        )
        == 4
    )
    first = await elsewhere.enqueue(1)
    assert await (await double.options(after=[first]).enqueue(3)).result(timeout=60) == 6
    assert await (await double.options(delay=0.2).enqueue(4)).result(timeout=60) == 8
    limited = [await sleep.options(limit_key="k").enqueue(0.05) for _ in range(15)]
    turns = [await double.options(fair_key=key).enqueue(n) for n in range(4) for key in "abc"]
    for handle in (*limited, *turns):
        await handle.result(timeout=60)
    for _ in range(4):
        await fail.enqueue()
    await until(lambda: is_dead(operator, 2), "the dead letters are trimmed")
    assert len(await operator.dead_letters("default")) == 2
    for viewer in (producer, operator):
        info = await viewer.handle((await operator.dead_letters("default"))[0].id).info()
        assert [error.attempt for error in info.errors] == [1, 2]
        assert (await viewer.handle(first.id).info()).result == 1
        assert info.enqueued_by
    assert (await operator.list_tasks()).items
    assert len((await operator.search_tasks("ValueError")).items) == 2
    assert (await operator.list_tasks(state="succeeded")).items
    retried = (await operator.dead_letters("default"))[0].id
    assert await operator.retry(retried)
    await until(lambda: is_dead(operator, 2), "it is dead again")
    assert await operator.requeue_dead("default") == 2
    await until(lambda: is_dead(operator, 2), "they are dead again")
    assert await operator.purge_dead("default") == 2
    long = await sleep.enqueue(60)
    await until(lambda: long.id in running.slots.running, "it runs")
    assert await long.cancel()
    await until(lambda: long.id not in running.held, "it is cancelled")

    # A lease that ends without an outcome, and a claim whose reply was lost.
    taken = await tasks["held"].enqueue()
    await until(lambda: taken.id in running.held, "it runs")
    lease = worker.broker.keys_of("default").lease
    guarded.call("ZADD", lease, 1, taken.id)
    await until(lambda: guarded.call("ZSCORE", lease, taken.id) != 1, "it is renewed, or taken over")
    await worker.broker.owned("default", running.identity.incarnation)
    release.set()

    # The operator's view.
    assert [info.worker_id for info in await operator.broker.workers()] == [running.identity.worker_id]
    await operator.broker.cordon(running.identity.name, ttl_seconds=60)
    await until(lambda: running.health.cordoned, "cordoned")
    await operator.broker.uncordon(running.identity.name)
    await until(lambda: not running.health.cordoned, "no longer cordoned")
    await until(lambda: not running.held, "nothing is held")
    await worker.broker.call_another("default")
    assert await producer.health_check()
    running.drain()
    await until(lambda: running.health.stopped, "it has left")
    monkeypatch.setattr(history.heaviest, "MOST_TASKS", 2)
    for key in "aab":
        await double.options(fair_key=key).enqueue(1)
    guarded.call("ZADD", "app:{default}:parked", 0, "key\0" + "0" * 16 + "\0id")
    assert not (await history.heaviest_keys(operator.broker, "default")).whole
    recorder = history.Recorder(operator.broker, step_seconds=0.05)
    recording = asyncio.create_task(recorder.run())
    await until(lambda: recorder.turns > 0, "figures are recorded")
    await end([recording])
    assert (await history.read(operator.broker, "default")).points[-1].ready == 3
    decision = history.DecisionRecord(datetime.now(UTC), 1, 2, 2, "Backlog", "3 tasks")
    await history.record_decision(operator.broker, "shop/orders", decision)
    assert len(await history.decisions(operator.broker, "shop/orders")) == 1
    assert [one.name for one in await history.scalers(operator.broker)] == ["shop/orders"]
    await operator.broker.purge_keys(["default", "other"])
    assert isinstance(operator.broker, RedisBroker)
    assert await operator.broker.server_id() == guarded.info("server")["run_id"]
    (memory,) = await operator.broker.memory()
    assert memory.used_bytes > 0
    await operator.broker.leave_mark("m", ttl_seconds=60)
    assert await operator.broker.has_mark("m")
    guarded.call("SET", "app:{default}:ready", "x")
    found = await operator.broker.figures({"default": (0, 0)})
    assert "key 'app:{default}:ready' holds a string" in str(found.failures["default"])

    denied = list(guarded.call("ACL", "LOG"))
    assert denied == []
    used = {name.removeprefix("cmdstat_").upper() for name, s in guarded.info("commandstats").items() if s["calls"]}
    asked_for = set[str]().union(*(acl.commands(role) for role in ("producer", "worker", "operator")))
    assert asked_for - used - RARE == set()


# Commands that are used only in situations that this test does not create: schedules too large for one reply.
RARE = {"HKEYS"}


async def is_dead(queue: TaskQueue, count: int) -> bool:
    stats = await queue.queue_stats("default")
    return stats.dead == count and stats.ready == stats.in_flight == stats.delayed == 0


@pytest.mark.parametrize("missing", ["-evalsha", "-hset", "-rpush", "-sadd", "-publish", "-pexpire"])
async def test_a_producer_that_lacks_a_command_is_told_so(user: Callable[..., TaskQueue], missing: str) -> None:
    queue = user("producer", missing)
    with pytest.raises(BrokerConnectionError, match="does not permit this to our user"):
        await define(queue)["double"].enqueue(1)


@pytest.mark.parametrize("missing", ["-evalsha", "-zadd", "-lpop", "-hmget"])
async def test_a_worker_that_lacks_a_command_does_not_work(
    user: Callable[..., TaskQueue], run_worker: RunWorker, missing: str
) -> None:
    handle = await define(user("producer"))["double"].enqueue(1)
    queue = user("worker")
    define(queue)
    worker = await run_worker(queue)
    await handle.result(timeout=60)
    user("worker", missing)
    handle = await define(user("producer"))["double"].enqueue(1)
    await until(lambda: worker.health.failing_since is not None, "it is refused")
    user("worker")
    assert await handle.result(timeout=60) == 2


async def test_other_keys_and_channels_are_out_of_reach(user: Callable[..., TaskQueue]) -> None:
    with pytest.raises(BrokerConnectionError, match=r"does not permit this to our user: .*key"):
        await define(user("producer", prefix="another"))["double"].enqueue(1)
    queue = user("operator", "resetchannels")
    with pytest.raises(BrokerConnectionError, match=r"does not permit this to our user: .*channel"):
        await queue.broker.cordon("w", ttl_seconds=1)


@pytest.mark.parametrize("role", ["producer", "worker", "operator", "doctor"])
def test_the_rules_in_the_documentation_are_these(role: acl.Role) -> None:
    rule = " ".join(acl.rule(role, cluster=True))
    assert rule in " ".join(DOCS.read_text(encoding="utf-8").replace("\\\n", " ").split())


def test_every_command_that_a_broker_sends_itself_belongs_to_a_role() -> None:
    source = "".join(file.read_text(encoding="utf-8") for file in Path(acl.__file__).parent.rglob("*.py"))
    methods = set(re.findall(r"\b(?:redis|client|pipeline)\.([a-z]+)\(", source)) - {"pipeline"}
    sent = {{"delete": "DEL"}.get(each, each.upper()) for each in methods if hasattr(CoreCommands, each)}
    assert {"HKEYS", "PERSIST", "ZSCAN", "DEL"} <= sent
    assert sent - set[str]().union(*map(acl.commands, get_args(acl.Role))) == set()


@pytest.mark.parametrize("role", ["producer", "worker", "operator", "doctor"])
async def test_schedules_that_are_too_large_for_one_reply_are_listed(
    guarded: RedisServer, user: Callable[..., TaskQueue], monkeypatch: pytest.MonkeyPatch, role: acl.Role
) -> None:
    def too_large(*_: Any) -> None:
        raise ReplyTooLargeError("too large")

    adding, queue = user("producer"), user(role)
    define(adding)
    await adding.add_schedule(name="nightly", task="double", args=[1], schedule="0 3 * * *")
    monkeypatch.setattr(schedule_calls, "page", too_large)
    (entry,) = await queue.broker.schedules.entries_of(Partition("default"))
    assert (entry.name, list(guarded.call("ACL", "LOG"))) == ("nightly", [])
    await adding.remove_schedule("nightly")


def test_every_script_belongs_to_a_role() -> None:
    all_scripts = {script.name for script in vars(scripts).values() if isinstance(script, scripts.Script)}
    all_scripts.update(script.name for script in scripts.DOCTOR.values())
    assert all_scripts == {script.name for of_role in acl._SCRIPTS.values() for script in of_role}
