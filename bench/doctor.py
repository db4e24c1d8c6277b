"""How long a checkup of many tasks takes, and its longest call: `python -m bench.doctor 1000000`.

The time of a call is that for which the server's main thread ran, so that other programs on the machine do not count.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.redis_server import RedisServer

from taskfleet.doctor import checkup
from taskfleet.ids import new_id
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.item import Extras, Item
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls.call import ScriptCall

_QUEUE = Partition("q")
_LOST = 3


def _item(n: int) -> Item:
    return new_id(), b"x" * 100, 0, 0, Extras(unique_key=f"u{n}") if n % 10 == 0 else None


class _Timed(RedisBroker):
    """A broker that notes for how long each call of a script keeps the server busy, in ms."""

    clock: Path
    calls: list[tuple[float, str]]

    async def call(self, call: ScriptCall[Any], call_bytes: int = 0) -> Any:
        before = int(self.clock.read_text().split()[0])
        reply = await super().call(call, call_bytes)
        self.calls.append(((int(self.clock.read_text().split()[0]) - before) / 1e6, call.script.name))
        return reply


async def _measure(server: RedisServer, many: int) -> None:
    broker = _Timed.from_url(server.url)
    assert isinstance(broker, _Timed)
    broker.clock, broker.calls = Path(f"/proc/{server.pid}/task/{server.pid}/schedstat"), []
    for start in range(0, many, CHUNK):
        await broker.enqueue(_QUEUE, [_item(n) for n in range(start, min(many, start + CHUNK))])
    ready: Any = broker.keys_of(_QUEUE).ready
    redis: Any = broker.client.redis
    for n in range(_LOST):
        await redis.lrem(ready, 1, await redis.lindex(ready, many // 2 + n))
    broker.calls.clear()
    began = time.monotonic()
    found = (await checkup.look(broker, [_QUEUE])).errors
    seconds = time.monotonic() - began
    (longest, name), calls = max(broker.calls), broker.calls.copy()
    busy = sum(each for each, _ in calls) / 1000
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{many} tasks, {len(found)} of {_LOST} lost ones found: {seconds:.0f} s, of which Redis worked {busy:.0f} s")
    print(f"{len(calls)} calls, the longest {longest:.1f} ms ({name}); {memory} MB of memory here")
    outcomes = [outcome async for _, outcome in checkup.repair(broker, found)]
    print(f"{outcomes.count('repaired')} repaired, the longest call {max(broker.calls[len(calls) :])[0]:.1f} ms")
    await broker.close()


if __name__ == "__main__":
    with RedisServer() as own:
        asyncio.run(_measure(own, int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
