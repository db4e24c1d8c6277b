"""How cost grows: claims and memory by what waits, and an idle fleet by its size. Each figure is named `curve.size`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench.children import PeerProcess
from bench.peer import CHECKOUT
from bench.scenarios.stage import START_SECONDS, Stage, pause
from taskfleet import QueueOptions
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.item import Edge, Extras, Item, Waits
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker

_HERE = Partition("q")
_CLAIMS = 500
_BLOB = b"x" * 40
_FAR_MS = 86_400_000
_PER_PROCESS = 50
_SETTLE_SECONDS = 3.0
_SAMPLE_SECONDS = 10.0

SIZES = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
FLEETS = (1, 10, 100, 500)
QUEUES = (1, 10, 100, 1_000)

UNITS = {
    **{f"claim_{percent}.{size}": "µs" for percent in ("p50", "p99") for size in SIZES},
    **{f"bytes_each.{size}": "bytes" for size in SIZES},
    **{f"commands_per_worker.{size}": "commands/s" for size in FLEETS},
    **{f"bytes_per_worker.{size}": "bytes" for size in FLEETS},
    **{f"redis_cpu.{size}": "%" for size in FLEETS},
    **{f"commands_with_queues.{size}": "commands/s" for size in QUEUES},
    **{f"stats.{size}": "ms" for size in QUEUES},
}
"""What a figure of a curve is measured in, by `curve.size`. A size is a number of tasks, keys, workers or queues."""

_Item = Callable[[int], Item]


def _plain(n: int) -> Item:
    return f"t{n}", _BLOB, 0, 0, None


def _delayed(n: int) -> Item:
    return f"t{n}", _BLOB, _FAR_MS + n, 0, None


def _fair(n: int) -> Item:
    return f"t{n}", _BLOB, 0, 0, Extras(fair_key=f"customer-{n}")


def _limited(n: int) -> Item:
    return f"t{n}", _BLOB, 0, 0, Extras(limit_key=f"customer-{n}")


def _member(n: int) -> Item:
    return f"t{n}", _BLOB, 0, 0, Extras(edges=[Edge(_HERE, "callback", n, carries=False)])


def waiting(stage: Stage) -> dict[str, float]:
    """Plain tasks that wait: a claim of one, and bytes for each."""
    return _grown(stage, _plain, QueueOptions("q"))


def delayed(stage: Stage) -> dict[str, float]:
    """Tasks that are due in a day, and a thousand plain ones at a time that are claimed."""
    return _grown(stage, _delayed, QueueOptions("q"), beside=True)


def fair_keys(stage: Stage) -> dict[str, float]:
    """As many fair keys as tasks: every claim goes on to another key."""
    return _grown(stage, _fair, QueueOptions("q"), most=1_000_000)


def limit_keys(stage: Stage) -> dict[str, float]:
    """As many limit keys as tasks, and one task at a time for each."""
    return _grown(stage, _limited, QueueOptions("q", concurrency_per_key=1), most=1_000_000)


def members(stage: Stage) -> dict[str, float]:
    """Members of one group, for all of which a callback waits."""
    return _grown(stage, _member, QueueOptions("q"), most=1_000_000, first=_callback)


def _callback(size: int) -> Item:
    return "callback", _BLOB, 0, 0, Extras(waits=Waits(size, 0))


def _grown(
    stage: Stage,
    item: _Item,
    options: QueueOptions,
    *,
    most: int = SIZES[-1],
    beside: bool = False,
    first: _Item | None = None,
) -> dict[str, float]:
    sizes = [size for size in SIZES if size <= min(most, 5 * stage.load.many)]
    return asyncio.run(_claims(stage, item, options, sizes, beside, first)) | {"tasks": float(sizes[-1])}


async def _claims(
    stage: Stage, item: _Item, options: QueueOptions, sizes: Sequence[int], beside: bool, first: _Item | None
) -> dict[str, float]:
    """At each size, claim one task at a time and record its success, and look how long Redis takes for such a call."""
    broker = RedisBroker.from_url(stage.server.url, command_timeout=60.0)
    figures: dict[str, float] = {}
    for size in sizes:
        stage.server.flush()
        await broker.enqueue(_HERE, [_plain(-1)])  # lists the queue
        await _step(broker, options, [])
        empty = stage.server.usage().bytes_used
        if first is not None:
            await broker.enqueue(_HERE, [first(size)])
        await _fill(broker, item, 0, size)
        figures[f"bytes_each.{size}"] = (stage.server.usage().bytes_used - empty) / size
        if beside:
            await _fill(broker, _plain, size, size + _CLAIMS)
        ended: list[Outcome] = []
        stage.server.reset_statistics()
        for _ in range(_CLAIMS):
            ended = await _step(broker, options, ended)
        figures[f"claim_p50.{size}"], figures[f"claim_p99.{size}"] = stage.server.script_microseconds()
    await broker.close()
    return figures


async def _fill(broker: RedisBroker, item: _Item, start: int, end: int) -> None:
    for at in range(start, end, CHUNK * 8):
        await broker.enqueue(_HERE, [item(n) for n in range(at, min(end, at + CHUNK * 8))])


async def _step(broker: RedisBroker, options: QueueOptions, ended: Sequence[Outcome]) -> list[Outcome]:
    reply = await broker.step(_HERE, options, "w", 1, ended)
    return [(claim[1], claim[4], "s", 0, b"", 0, 0) for claim in reply.claims]


def workers(stage: Stage) -> dict[str, float]:
    """Idle workers of one queue: what each costs Redis."""
    figures: dict[str, float] = {}
    for size in FLEETS:
        rate, share, grown = _idle_fleet(stage, size, queues=1)
        figures |= {
            f"commands_per_worker.{size}": rate / size,
            f"bytes_per_worker.{size}": grown / size,
            f"redis_cpu.{size}": share,
        }
    return figures | {"tasks": float(FLEETS[-1])}


def queues(stage: Stage) -> dict[str, float]:
    """One idle worker of many queues, and one look at the figures of all."""
    figures: dict[str, float] = {}
    for size in QUEUES:
        figures[f"commands_with_queues.{size}"], _, _ = _idle_fleet(stage, 1, queues=size)
        figures[f"stats.{size}"] = asyncio.run(_look(stage, size))
    return figures | {"tasks": float(QUEUES[-1])}


async def _look(stage: Stage, size: int) -> float:
    """Milliseconds for the figures of all queues; the median of a few looks."""
    broker = RedisBroker.from_url(stage.server.url, command_timeout=60.0)
    names = [Partition(f"queue-{n}") for n in range(size)]
    for name in names:
        await broker.enqueue(name, [_plain(0)])
    took: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        await broker.stats_many(names, horizon_ms=60_000)
        took.append((time.perf_counter() - began) * 1000)
    await broker.close()
    return sorted(took)[2]


def _idle_fleet(stage: Stage, size: int, *, queues: int) -> tuple[float, float, float]:
    """(commands per second, processor time of Redis in percent of a core, bytes of Redis) of so many idle workers."""
    stage.server.flush()
    empty = stage.server.usage()
    path = os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "worker")))
    settings = {"REDIS_URL": stage.server.url, "PYTHONPATH": path}
    with ExitStack() as stack:
        left = size
        while left > 0:
            some = min(left, _PER_PROCESS)
            command = (sys.executable, "-m", "bench.growth.idle", str(some), str(queues))
            child = stack.enter_context(PeerProcess(f"{some} idle workers", command, settings))
            child.expect("ready", START_SECONDS + size / 10)
            left -= some
        pause(_SETTLE_SECONDS)
        before = stage.server.usage()
        pause(_SAMPLE_SECONDS)
        after = stage.server.usage()
    rate = (after.commands + after.calls - before.commands - before.calls) / _SAMPLE_SECONDS
    share = (after.cpu_seconds - before.cpu_seconds) / _SAMPLE_SECONDS * 100
    return rate, share, after.bytes_used - empty.bytes_used
