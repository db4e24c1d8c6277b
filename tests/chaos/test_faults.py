"""The faults: a schedule that a seed decides, and a proxy that follows orders."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import ledger, proxy
from tests.chaos.faults import schedule
from tests.chaos.ledger import Ledger
from tests.chaos.proxy import Client
from tests.engine.conftest import until

_WORKERS, _PRODUCERS = ["w0", "w1", "previous"], ["p0"]


def test_a_seed_decides_the_schedule() -> None:
    one, again, other = (schedule(seed, 200, 100.0, _WORKERS, _PRODUCERS) for seed in (7, 7, 8))
    assert one == again != other


def test_faults_come_one_after_the_other_and_every_kind_among_them() -> None:
    faults = schedule(7, 20, 10.0, _WORKERS, _PRODUCERS)
    assert len(faults) == 20
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    assert 0.0 <= faults[0].at <= faults[-1].at <= 10.0
    assert {"kill", "stop_long", "redis_kill", "lose", "late", "stall_long"} <= {fault.what for fault in faults}


class RecordingServer:
    """Records every byte that arrives, and answers each request with `reply`."""

    def __init__(self) -> None:
        self.received = b""
        self.open = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                self.received += data
                writer.write(b"reply")
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        self.open -= 1


@pytest.fixture
async def way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Client, RecordingServer, int]]:
    """(the proxy's orders, the server behind it, the port before it)."""
    monkeypatch.setattr(proxy, "_ARMED_SECONDS", 600.0)  # however late a busy machine sends the request
    behind = RecordingServer()
    server = await asyncio.start_server(behind.accept, "127.0.0.1", 0)
    notes = Ledger(tmp_path, "proxy")
    client = Client("w1", server.sockets[0].getsockname()[1], notes)
    before = await asyncio.start_server(client.accept, "127.0.0.1", 0)
    yield client, behind, before.sockets[0].getsockname()[1]
    client.order({"do": "cut"})
    for listener in (before, server):
        listener.close()
        await listener.wait_closed()
    await until(lambda: not behind.open and client.idle, "every connection is closed")
    notes.close()


async def ask(port: int, request: bytes = b"request") -> bytes:
    """The reply, or nothing when the line was cut before it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(1000), 30.0)
    except ConnectionError:
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_without_orders_everything_passes(way: tuple[Client, RecordingServer, int]) -> None:
    _, server, port = way
    assert await ask(port) == b"reply"
    assert server.received == b"request"


async def test_a_lost_reply_is_lost_after_its_request_has_arrived(way: tuple[Client, RecordingServer, int]) -> None:
    client, server, port = way
    client.order({"do": "lose", "times": 1})
    assert await ask(port) == b""
    assert server.received == b"request"
    assert await ask(port) == b"reply"


async def test_half_of_a_torn_request_arrives(way: tuple[Client, RecordingServer, int]) -> None:
    client, server, port = way
    client.order({"do": "tear", "times": 1})
    assert await ask(port, b"12345678") == b""
    await until(lambda: server.received == b"1234", "half of it has arrived")


async def test_a_late_request_arrives_after_its_client_was_cut_off(way: tuple[Client, RecordingServer, int]) -> None:
    client, server, port = way
    client.order({"do": "late", "times": 1, "seconds": 4.0})
    assert await ask(port) == b""
    assert server.received == b""
    await until(lambda: server.received == b"request", "it arrives")


async def test_a_stalled_way_lets_nothing_pass_until_it_is_over(way: tuple[Client, RecordingServer, int]) -> None:
    client, server, port = way
    began = asyncio.get_running_loop().time()
    client.order({"do": "stall", "seconds": 0.3})
    assert await ask(port) == b"reply"
    assert asyncio.get_running_loop().time() - began >= 0.29
    assert server.received == b"request"


async def test_a_stall_is_noted_when_it_begins_and_when_it_was_over(
    way: tuple[Client, RecordingServer, int], tmp_path: Path
) -> None:
    """Not when it was ordered: a busy machine may let the proxy wait before it and before its end."""
    client, _, port = way
    client.order({"do": "stall", "seconds": 0.2})
    time.sleep(0.5)  # noqa: ASYNC251 - the loop of the proxy stands still
    assert await ask(port) == b"reply"
    notes = [note for path in tmp_path.glob("*.ledger") for note in ledger.read(path)]
    assert [(note[0], note[2], note[3]) for note in notes] == [("stall", "stall", "w1")] * 2
    (_, began, *_, planned), (_, again, *_, ended) = notes
    assert began == again
    assert planned == pytest.approx(began + 0.2)
    assert ended >= began + 0.5


async def test_a_cut_is_noted_for_every_connection(way: tuple[Client, RecordingServer, int], tmp_path: Path) -> None:
    client, _, port = way
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"request")
    assert await reader.read(1000) == b"reply"
    client.order({"do": "cut"})
    with contextlib.suppress(ConnectionError):
        assert await reader.read(1000) == b""
    writer.close()
    notes: list[list[Any]] = [note for path in tmp_path.glob("*.ledger") for note in ledger.read(path)]
    assert [(note[0], note[2], note[3]) for note in notes] == [("hit", "cut", "w1")]
