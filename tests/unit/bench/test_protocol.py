from __future__ import annotations

import asyncio
import json

import pytest
from bench import protocol
from bench.protocol import AsyncPeer, tally


class Instant(AsyncPeer):
    """Run the sent tasks in this process, one after the other."""

    version = "1.0"

    def __init__(self) -> None:
        self.sent: list[float] = []

    def sender(self, task: str):  # type: ignore[no-untyped-def] # a test's
        async def send(at: float) -> None:
            self.sent.append(at)

        return send

    async def consume(self, slots: int, finished: asyncio.Event) -> None:
        while self.sent and not finished.is_set():
            tally.note(self.sent.pop(0))
        await finished.wait()


async def test_producers_together_send_as_many_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    peer = Instant()
    reply = await peer.enqueue({"tasks": 7, "producers": 3})
    assert reply["tasks"] == 7
    assert peer.sent == [0.0] * 7


async def test_a_measurement_counts_what_was_asked_for_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    peer = Instant()
    peer.sent = [0.0, protocol.now() - 5000, 0.0, 0.0]
    reply = await peer.work({"tasks": 3, "slots": 1})
    assert json.loads(capsys.readouterr().out) == {"event": "consuming"}
    tally.note()
    assert tally.reply() == reply
    assert reply["tasks"] == 3
    assert reply["latencies_us"][0] >= 5000
    assert reply["seconds"] == (reply["ended_us"] - reply["began_us"]) / 1e6


async def test_one_worker_of_several_ends_when_nothing_is_left_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    peer = Instant()
    peer.sent = [0.0, 0.0]
    reply = await peer.work({"tasks": 10, "slots": 1, "idle_ms": 20})
    assert reply["tasks"] == 2
    assert reply["ended_us"] >= reply["began_us"] > 0
