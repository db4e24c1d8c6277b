"""The shortest way through a list of Redis between two Python processes: `LPUSH` here, `BLPOP` there.

Both write to bare transports, and speak JSON lines like a peer. No queue that uses such a list from Python can be
faster, and this one loses what it has popped when its process ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
from typing import Any
from urllib.parse import urlsplit

import hiredis
import uvloop
from bench.protocol import now, say

_KEY = "hop"


class Line(asyncio.Protocol):
    """Commands out; each reply goes to `heard`."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self.heard: Any = lambda reply: None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.heard(reply)


async def receive(line: Line, count: int) -> list[float]:
    """Pop so many elements; for each the µs since the time that it tells."""
    taken: list[float] = []
    all_taken = asyncio.Event()
    pop = hiredis.pack_command(("BLPOP", _KEY, "0"))

    def heard(reply: Any) -> None:
        taken.append(now() - float(reply[1]))
        if len(taken) == count:
            all_taken.set()
        else:
            line.transport.write(pop)

    line.heard = heard
    line.transport.write(pop)
    say({"event": "consuming"})
    await all_taken.wait()
    return taken


async def push(line: Line, count: int, interval_ms: float) -> None:
    for _ in range(count):
        await asyncio.sleep(interval_ms / 1000)
        line.transport.write(hiredis.pack_command(("LPUSH", _KEY, repr(now()))))
    await asyncio.sleep(interval_ms / 1000)


async def serve() -> None:
    address = urlsplit(os.environ["REDIS_URL"])
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(Line, address.hostname or "127.0.0.1", address.port or 6379)
    say({"event": "ready", "version": "0", "runtime": f"Python {platform.python_version()}"})
    while text := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(text)
        if request["op"] == "work":
            latencies = await receive(line, request["tasks"])
            say({"event": "done", "tasks": request["tasks"], "latencies_us": latencies})
        else:
            await push(line, request["tasks"], request["interval_ms"])
            say({"event": "done", "tasks": request["tasks"]})


if __name__ == "__main__":
    uvloop.run(serve())
