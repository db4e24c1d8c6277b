"""A worker of many queues: what it costs Redis while nothing happens, and that it misses nothing."""

from __future__ import annotations

import asyncio

from taskfleet import QueueOptions
from taskfleet.protocol.claim import CLAIM_DELIVERY, CLAIM_ID, Claim
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue, RunWorker, until
from tests.support.redis_server import RedisServer

QUEUES = [f"queue-{n}" for n in range(40)]
_WATCHED_SECONDS = 5.0  # some looks of an idle worker


def script_calls(server: RedisServer) -> int:
    return int(server.info("commandstats")["cmdstat_evalsha"]["calls"])


async def test_an_idle_worker_calls_no_script_for_queues_that_are_empty(
    server: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(server.url, queues=QUEUES, heartbeat=60.0)
    worker = await run_worker(queue)
    await until(lambda: not worker.selection.hot(0.0), "all queues were found empty")
    before = script_calls(server)
    await asyncio.sleep(_WATCHED_SECONDS)
    assert script_calls(server) - before < len(QUEUES)


async def test_an_idle_worker_takes_over_the_task_of_a_dead_one_in_any_of_its_queues(
    server: RedisServer, make_queue: MakeQueue, run_worker: RunWorker
) -> None:
    queue = make_queue(server.url, queues=QUEUES)
    broker, last = queue.broker, Partition(QUEUES[-1])
    assert isinstance(broker, RedisBroker)

    @queue.task
    async def task() -> None: ...

    worker = await run_worker(queue)
    await (await task.options(queue=last).enqueue()).result(timeout=25)
    await until(lambda: not worker.selection.hot(0.0), "all queues were found empty")
    # The dead worker has claimed it elsewhere, so that the idle one was not notified and knows of no lease.
    await task.options(queue="elsewhere").enqueue()
    assert await claimed(broker, Partition("elsewhere"), lease_seconds=1.0)
    there, here = broker.keys_of(Partition("elsewhere")), broker.keys_of(last)
    for key, name in ((there.task, here.task), (there.owner, here.owner), (there.lease, here.lease)):
        server.call("RENAME", key, name)
    await until(lambda: worker.tally.taken_over[last] == 1, "it is taken over")
    await until(lambda: not worker.held, "it has run")


async def claimed(broker: RedisBroker, partition: Partition, *, lease_seconds: float = 30.0) -> list[Claim]:
    return (await broker.step(partition, QueueOptions(partition, lease_seconds=lease_seconds), "dead", 1, [])).claims


async def test_occupied_are_the_queues_with_tasks_in_any_state(server: RedisServer, make_queue: MakeQueue) -> None:
    queue = make_queue(server.url, queues=["ready", "delayed", "leased", "never", "ended"])

    @queue.task
    async def task() -> None: ...

    await task.options(queue="ready").enqueue()
    await task.options(queue="delayed", delay=60).enqueue()
    for name in ("leased", "ended"):
        await task.options(queue=name).enqueue()
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    assert await claimed(broker, Partition("leased"))
    (claim,) = await claimed(broker, Partition("ended"))
    outcome: Outcome = (claim[CLAIM_ID], claim[CLAIM_DELIVERY], "s", 0, b"", 0, 0)
    await broker.step(Partition("ended"), QueueOptions("ended"), "dead", 0, [outcome])
    names = [Partition(name) for name in ("never", "ready", "ended", "delayed", "leased")]
    assert await broker.occupied(names) == ["ready", "delayed", "leased"]
