"""The Redis pattern of Taskfleet without its library: `bare.py` speaks JSON lines like a peer's worker.

One socket, two calls of the script in flight, so that Redis works while Python does. For each task: its blob is
decoded and a coroutine is awaited; no asyncio task, no timeout, no retry, no lease keeper, no metrics.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis
import msgpack
import uvloop
from bench.protocol import now, say

_NAMES = ("ready", "task", "lease", "owner", "delayed", "meta", "stat")
_KEYS = tuple(f"bare:{{q}}:{name}" for name in _NAMES)
_IN_FLIGHT = 2
_STAMP = 8  # bytes
_FILL = 1000  # tasks per pipeline


class Connection:
    """Commands out, replies in, in order; no waiting in between."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname or "127.0.0.1", address.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, *commands: tuple[Any, ...]) -> None:
        self._socket.sendall(b"".join(hiredis.pack_command(command) for command in commands))

    def receive(self) -> Any:
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError("Redis has gone")
            self._reader.feed(data)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def noop(at: float) -> None:
    """The task."""


def fill(redis: Connection, tasks: int) -> None:
    """Store a waiting task as Taskfleet does: a list entry, and a blob that begins with a stamp."""
    blob = bytes(_STAMP) + msgpack.packb([1, "noop", [0.0], {}])
    for first in range(0, tasks, _FILL):
        ids = [f"{i:022d}" for i in range(first, min(first + _FILL, tasks))]
        pairs: list[Any] = [part for id_ in ids for part in (id_, blob)]
        redis.send(("HSET", _KEYS[1], *pairs), ("RPUSH", _KEYS[0], *ids))
        redis.receive()
        redis.receive()


async def drain(redis: Connection, digest: str, tasks: int, batch: int) -> float:
    """Run all tasks; seconds."""
    fill(redis, tasks)
    waiting: deque[None] = deque()

    def call(done: Sequence[bytes]) -> None:
        acks = msgpack.packb(done, use_bin_type=False) if done else b""
        redis.send(("EVALSHA", digest, len(_KEYS), *_KEYS, "bare", batch, 30_000, acks))
        waiting.append(None)

    ran = 0
    began = now()
    for _ in range(_IN_FLIGHT):
        call(())
    while waiting:
        _, claimed = redis.receive()
        waiting.popleft()
        ids = claimed[::2]
        for blob in claimed[1::2]:
            message = msgpack.unpackb(blob[_STAMP:])
            await noop(*message[2])
        ran += len(ids)
        if ids:
            call(ids)
    if ran != tasks:
        raise RuntimeError(f"ran {ran} tasks of {tasks}")
    return (now() - began) / 1e6


async def serve() -> None:
    redis = Connection(os.environ["REDIS_URL"])
    redis.send(("SCRIPT", "LOAD", Path(__file__).with_name("bare.lua").read_text(encoding="ascii")))
    digest = redis.receive().decode()
    say({"event": "ready", "version": "0", "runtime": f"Python {platform.python_version()}"})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            seconds = await drain(redis, digest, request["tasks"], request["batch"])
        except Exception as error:
            say({"event": "error", "error": f"{type(error).__name__}: {error}"})
        else:
            say({"event": "done", "tasks": request["tasks"], "seconds": seconds})
        await asyncio.sleep(0)


if __name__ == "__main__":
    uvloop.run(serve())
