"""The warnings of the doctor, from real workers, queues and servers."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from taskfleet import TaskQueue
from taskfleet.doctor import checkup
from taskfleet.doctor.finding import Diagnosis
from taskfleet.redis.broker import RedisBroker
from taskfleet.runtime.fleet import heartbeat
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer
from tests.support.redis_topologies import Replica

OF_THE_SERVER = {"persistence", "eviction", "memory"}


async def look(queue: TaskQueue, *known: str) -> list[Diagnosis]:
    assert isinstance(queue.broker, RedisBroker)
    findings = (await checkup.look(queue.broker, known)).findings
    return [finding for finding in findings if finding.code not in OF_THE_SERVER]


async def test_a_queue_without_a_worker_and_a_paused_one(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()

    @queue.task
    async def note() -> None: ...

    await queue.pause("default")
    assert await look(queue, "default") == []
    handle = await note.enqueue()
    assert [each.code for each in await look(queue)] == ["queue-paused", "queue-unknown"]
    assert [each.code for each in await look(queue, "default")] == ["queue-paused", "queue-unserved"]
    await run_worker(queue)
    (paused,) = await look(queue)
    assert (paused.code, paused.severity, paused.what) == ("queue-paused", "warning", "it is paused, with 1 task")
    assert paused.repair == "taskfleet resume default"
    await queue.resume("default")
    await handle.result(timeout=60)
    assert await look(queue) == []


async def test_a_cordon_of_a_worker_that_is_gone(make_queue: MakeQueue, run_worker: RunWorker) -> None:
    queue = make_queue()
    worker = await run_worker(queue)
    for name in (worker.identity.name, "gone"):
        await queue.broker.cordon(name, ttl_seconds=60)
    assert [(each.code, each.subject) for each in await look(queue)] == [("cordon-left", "gone")]
    worker.drain()
    await until(lambda: worker.health.stopped, "it has left")
    found = {(each.code, each.subject) for each in await look(queue)}
    assert found == {("cordon-left", "gone"), ("cordon-left", worker.identity.name)}


async def test_a_worker_of_another_version(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make_queue()
    worker = await run_worker(queue)
    assert await look(queue) == []
    monkeypatch.setattr(checkup, "__version__", "999.0")
    assert [(each.code, each.subject) for each in await look(queue)] == [("worker-version", worker.identity.worker_id)]


@pytest.mark.parametrize(("seconds", "side"), [(60, "ahead of"), (-60, "behind")])
async def test_a_worker_whose_clock_is_wrong(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, seconds: int, side: str
) -> None:
    wrong = SimpleNamespace(**vars(time) | {"time": lambda: time.time() + seconds})
    monkeypatch.setattr(heartbeat, "time", wrong)
    queue = make_queue()
    worker = await run_worker(queue)
    (finding,) = await look(queue)
    assert (finding.code, finding.subject) == ("clock", worker.identity.worker_id)
    assert finding.what.endswith(f"s {side} that of Redis")

    async def told() -> bool:
        (again,) = await look(queue)
        return abs(float(again.what.split()[3]) - 60) < 5

    await until(told, "a heartbeat that was not held up between the two clocks")


@pytest.mark.orphans("another program writes a schedule")
async def test_a_schedule_that_cannot_be_read(make_queue: MakeQueue) -> None:
    queue = make_queue()
    broker = queue.broker
    assert isinstance(broker, RedisBroker)

    @queue.task
    async def note() -> None: ...

    await queue.add_schedule(name="nightly", task="note", schedule="0 3 * * *")
    assert await look(queue) == []
    await broker.client.redis.hset(broker.keys_of("default").schedules.specs, "nightly", b"\xc1")
    (finding,) = await look(queue)
    assert (finding.code, finding.severity, finding.subject) == ("schedule-broken", "error", "nightly")
    assert not finding.is_mendable
    assert await queue.remove_schedule("nightly")
    assert await look(queue) == []


async def test_a_replica_that_stands_still() -> None:
    with RedisServer() as master, Replica(master) as replica:
        async with TaskQueue(master.url) as queue:
            assert await look(queue) == []
            replica.pause()
            try:
                for _ in range(12):
                    master.call("SET", "of-another-program", b"x" * 1_000_000)
                (finding,) = await look(queue)
            finally:
                replica.go_on()
            assert (finding.code, finding.subject) == ("replica-behind", f"127.0.0.1:{replica.port}")
            assert "bytes behind" in finding.what

            async def in_step() -> bool:
                return await look(queue) == []

            await until(in_step, "it is in step again", seconds=60)
