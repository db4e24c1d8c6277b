"""A proxy between the processes under test and Redis that cuts, stalls, tears and loses; one port for each client.

A process of its own: `python -m tests.chaos.proxy FOLDER REDIS_PORT NAME …`. It notes hits and stalls in a ledger in
that folder. It reads orders from its standard input, one JSON object a line, and ends with it:

    {"do": "cut", "client": "w1"}                      every connection is reset
    {"do": "stall", "client": "w1", "seconds": 2.5}    nothing passes, in either direction
    {"do": "lose", "client": "w1", "times": 3}         the next requests arrive; their replies do not, the line is cut
    {"do": "tear", "client": "w1", "times": 1}         half of the next request arrives, the line is cut
    {"do": "late", "client": "w1", "times": 1, "seconds": 1.5}
                                                       the line is cut; the request arrives after the client gave it up

`lose`, `tear` and `late` wait three seconds at most for their requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.chaos.ledger import Ledger, now

_ARMED_SECONDS = 3.0
_BYTES = 65536


class Client:
    """The faults that apply now to the connections of one process."""

    def __init__(self, name: str, redis_port: int, notes: Ledger) -> None:
        self._name = name
        self._redis_port = redis_port
        self._notes = notes
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.armed: dict[str, int] = {"lose": 0, "tear": 0, "late": 0}
        self.late_seconds = 1.0
        self._links: set[Link] = set()
        self._stalls = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", self._redis_port)
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, reader, writer, redis_reader, redis_writer)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    @property
    def idle(self) -> bool:
        """Whether it has no connections."""
        return not self._links

    def order(self, order: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        match order["do"]:
            case "cut":
                for link in list(self._links):
                    self.hit("cut")
                    link.cut()
            case "stall":
                self._stalls += 1
                self.flowing.clear()
                began = now()
                # Now, for a judge that reads the ledger before its end; and then: this process may not run in time.
                self._stalled(began, began + order["seconds"])
                loop.call_later(order["seconds"], self._flow, began)
            case what:
                self.armed[what] = order["times"]
                self.late_seconds = order.get("seconds", self.late_seconds)
                loop.call_later(_ARMED_SECONDS, self.armed.__setitem__, what, 0)

    def _flow(self, began: float) -> None:
        self._stalls -= 1
        if not self._stalls:
            self.flowing.set()
        self._stalled(began, now())

    def _stalled(self, began: float, ended: float) -> None:
        self._notes.note("stall", began, "stall", self._name, ended)

    def take(self, what: str) -> bool:
        """Whether this happens to the next request."""
        if self.armed[what]:
            self.armed[what] -= 1
            self.hit(what)
            return True
        return False

    def hit(self, what: str) -> None:
        self._notes.note("hit", now(), what, self._name)


class Link:
    """One connection of a client, and its connection to Redis."""

    def __init__(
        self,
        client: Client,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        redis_reader: asyncio.StreamReader,
        redis_writer: asyncio.StreamWriter,
    ) -> None:
        self._client = client
        self._reader, self._writer = reader, writer
        self._redis_reader, self._redis_writer = redis_reader, redis_writer
        self._losing = False

    def cut(self) -> None:
        self._writer.transport.abort()
        self._redis_writer.transport.abort()

    async def run(self) -> None:
        up = asyncio.create_task(self._requests())
        down = asyncio.create_task(self._replies())
        # The first side that ends ends the other.
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        for pump in (up, down):
            pump.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        self.cut()

    async def _requests(self) -> None:
        client = self._client
        with contextlib.suppress(OSError):
            while data := await self._reader.read(_BYTES):
                await client.flowing.wait()
                if client.take("late"):
                    self._writer.transport.abort()
                    await asyncio.sleep(client.late_seconds)
                    self._redis_writer.write(data)
                    await self._redis_writer.drain()
                    await asyncio.sleep(1.0)  # the reply goes nowhere
                    return
                if client.take("tear"):
                    self._redis_writer.write(data[: len(data) // 2])
                    await self._redis_writer.drain()
                    return
                if client.take("lose"):
                    self._losing = True
                self._redis_writer.write(data)
                await self._redis_writer.drain()

    async def _replies(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._redis_reader.read(_BYTES):
                await self._client.flowing.wait()
                if self._losing:
                    return
                if not self._writer.transport.is_closing():
                    self._writer.write(data)
                    await self._writer.drain()


async def serve(folder: Path, redis_port: int, names: list[str]) -> None:
    """Serve a port for each client, and print which, as one line of JSON, until standard input ends."""
    notes = Ledger(folder, "proxy")
    clients = {name: Client(name, redis_port, notes) for name in names}
    servers = [await asyncio.start_server(client.accept, "127.0.0.1", 0) for client in clients.values()]
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    print(json.dumps(dict(zip(names, ports, strict=True))), flush=True)
    while line := await orders.readline():
        order = json.loads(line)
        clients[order["client"]].order(order)
    for server in servers:
        server.close()


def main(arguments: list[str]) -> None:
    import uvloop

    uvloop.run(serve(Path(arguments[0]), int(arguments[1]), arguments[2:]))


if __name__ == "__main__":
    main(sys.argv[1:])
