"""A workflow that is being sent is no finding, and one whose sender has died ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskfleet import GroupHandle, TaskCancelledError, chain, group
from taskfleet.doctor import checkup
from taskfleet.protocol.item import MOST_EDGES
from taskfleet.redis.broker import RedisBroker
from tests.engine.conftest import MakeQueue, RunWorker, until

MEMBERS = MOST_EDGES + 3  # more than one call adds: the first task waits for a gate


class Stalled:
    """A sender that stands still where it is about to open the gate of a wide workflow."""

    def __init__(self, make_queue: MakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue = make_queue()
        assert isinstance(self.queue.broker, RedisBroker)
        self.broker = self.queue.broker
        self.looker = self.broker.another()
        self.there, self.go_on = asyncio.Event(), asyncio.Event()
        self.ran: list[int] = []
        signal = self.broker.signal

        async def stalled(*args: Any) -> int:
            self.there.set()
            await self.go_on.wait()
            return await signal(*args)

        monkeypatch.setattr(self.broker, "signal", stalled)

        @self.queue.task
        async def note(n: int, _result: int | None = None) -> int:
            self.ran.append(n)
            return n

        members = group(*(note.message(n) for n in range(1, MEMBERS + 1)))
        self.sending = asyncio.create_task(self.queue.enqueue(chain(note.message(0), members)))

    async def errors(self) -> list[tuple[str, str]]:
        found = (await checkup.look(self.looker, ["default"])).errors
        return [(finding.code, finding.subject) for finding in found]


async def test_a_sender_that_stalls_before_the_gate_is_no_finding(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = Stalled(make_queue, monkeypatch)
    await asyncio.wait_for(stalled.there.wait(), 60)
    await run_worker(stalled.queue)
    for _ in range(2):
        assert await stalled.errors() == []
    assert stalled.ran == [], "the gate is closed"
    stalled.go_on.set()
    handles = await stalled.sending
    assert isinstance(handles, GroupHandle)
    await handles.result(timeout=60)
    assert len(stalled.ran) == MEMBERS + 1
    assert await stalled.errors() == []
    await stalled.looker.close()


async def test_when_a_sender_dies_before_the_gate_its_workflow_ends(
    make_queue: MakeQueue, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = Stalled(make_queue, monkeypatch)
    await asyncio.wait_for(stalled.there.wait(), 60)
    stats = await stalled.queue.queue_stats("default")
    assert stats.blocked == MEMBERS + 1
    names, redis = stalled.broker.keys_of("default"), stalled.broker.client.redis
    limited = await redis.zrangebyscore(names.blocked, 0, "(+inf")
    assert len(limited) == 1, "all others are confirmed"
    first = stalled.queue.handle(limited[0].decode())
    await redis.zadd(names.blocked, {first.id: 1})  # ten minutes later
    queue = make_queue()
    await run_worker(queue)
    with pytest.raises(TaskCancelledError, match="never sent whole"):
        await first.result(timeout=60)

    async def empty() -> bool:
        return (await stalled.queue.queue_stats("default")).blocked == 0

    await until(empty, "those that wait for it have ended", seconds=60)
    assert stalled.ran == []
    assert await stalled.errors() == []
    stalled.sending.cancel()
    stalled.go_on.set()
    await asyncio.wait([stalled.sending])
    await stalled.looker.close()
