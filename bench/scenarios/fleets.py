"""What an idle fleet costs, by the number of its workers and of its queues. A figure is named `curve.size`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.children import PeerProcess
from bench.peer import CHECKOUT
from bench.scenarios.growth import decades
from bench.scenarios.stage import START_SECONDS, Stage, pause
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker

_PER_PROCESS = 50
_START_SECONDS_EACH = 1.0
_LOOKS = 5
_LOOKED_AT = 1_000  # in all, at least: a small fleet is looked at more often
_PATIENCE_SECONDS = 60.0
_WAIT, _BEAT = "blpop", "hset"  # nothing else of an idle worker writes a hash

UNITS = {
    "commands_per_worker": "1/s",
    "scripts_per_worker": "1/s",
    "waits_per_worker": "1/s",
    "beats_per_worker": "1/s",
    "redis_per_worker": "µs/s",
    "connections_per_worker": "",
    "bytes_per_worker": "bytes",
    "look_per_worker": "µs",
    "commands_with_queues": "1/s",
    "scripts_with_queues": "1/s",
    "redis_with_queues": "µs/s",
    "look_per_queue": "µs",
}
"""The curves: commands of all kinds, those inside scripts too; calls of scripts, blocked reads, and heartbeats among
them; processor time of Redis; then what one reader of the fleet's figures costs it."""


@dataclass(frozen=True, slots=True)
class _Idle:
    """What an idle fleet has cost Redis in each second, and what it holds there."""

    commands: float
    scripts: float
    waits: float
    beats: float
    redis_us: float
    connections: float
    bytes: float


def workers(stage: Stage) -> dict[str, float]:
    """Idle workers of one queue: what each costs, and what it costs to read the heartbeats of all."""
    figures: dict[str, float] = {}
    own_us = _prepare(stage)
    for size in decades(1, stage.load.growth.workers):
        with _fleet(stage, size, queues=1, own_us=own_us) as idle:
            figures |= {
                f"commands_per_worker.{size}": idle.commands / size,
                f"scripts_per_worker.{size}": idle.scripts / size,
                f"waits_per_worker.{size}": idle.waits / size,
                f"beats_per_worker.{size}": idle.beats / size,
                f"redis_per_worker.{size}": idle.redis_us / size,
                f"connections_per_worker.{size}": idle.connections / size,
                f"bytes_per_worker.{size}": idle.bytes / size,
                f"look_per_worker.{size}": asyncio.run(_look(stage, _read_workers, size)) / size,
            }
    return figures | {"tasks": float(stage.load.growth.workers)}


def queues(stage: Stage) -> dict[str, float]:
    """One idle worker of many queues, and what it costs to read the figures of all queues."""
    figures: dict[str, float] = {}
    own_us = _prepare(stage)
    for size in decades(1, stage.load.growth.queues):
        with _fleet(stage, 1, queues=size, own_us=own_us) as idle:
            figures |= {
                f"commands_with_queues.{size}": idle.commands,
                f"scripts_with_queues.{size}": idle.scripts,
                f"redis_with_queues.{size}": idle.redis_us,
            }
        read = partial(_read_figures, names=[Partition(f"queue-{n}") for n in range(size)])
        figures[f"look_per_queue.{size}"] = asyncio.run(_look(stage, read, size)) / size
    return figures | {"tasks": float(stage.load.growth.queues)}


def _prepare(stage: Stage) -> float:
    """Have all that belongs to no worker in the memory of Redis; its own processor time, in µs per second.

    A worker comes and goes, whose scripts stay. The statistics of latencies would take memory while the fleet is there.
    """
    stage.server.call("CONFIG", "SET", "latency-tracking", "no")
    with _processes(stage, 1, 1):
        pass
    pause(stage.load.growth.settle_seconds)
    began, before = time.monotonic(), stage.server.usage()
    pause(stage.load.growth.idle_seconds)
    return (stage.server.usage().cpu_seconds - before.cpu_seconds) / (time.monotonic() - began) * 1e6


async def _read_workers(broker: RedisBroker) -> None:
    await broker.workers()


async def _read_figures(broker: RedisBroker, names: list[Partition]) -> None:
    await broker.stats_many(names, horizon_ms=60_000)


async def _look(stage: Stage, read: Callable[[RedisBroker], Awaitable[None]], size: int) -> float:
    """Microseconds of Redis' processor for one look at so many: the mean of some, after one that loads scripts."""
    looks = max(_LOOKS, _LOOKED_AT // size)
    broker = RedisBroker.from_url(stage.server.url, command_timeout=_PATIENCE_SECONDS)
    await read(broker)
    before = stage.server.usage().cpu_seconds
    for _ in range(looks):
        await read(broker)
    after = stage.server.usage().cpu_seconds
    await broker.close()
    return (after - before) / looks * 1e6


@contextmanager
def _fleet(stage: Stage, size: int, *, queues: int, own_us: float) -> Iterator[_Idle]:
    """So many idle workers, which stay until the block ends; `own_us` is what Redis does without any."""
    stage.server.flush()
    stage.server.reset_statistics()
    pause(stage.load.growth.settle_seconds)  # Redis gives the buffers back that connections have used
    empty = stage.server.usage()
    with _processes(stage, size, queues):
        pause(stage.load.growth.settle_seconds)
        began, before = time.monotonic(), stage.server.usage()
        waits, beats = stage.server.calls_of(_WAIT), stage.server.calls_of(_BEAT)
        pause(stage.load.growth.idle_seconds)
        after, seconds = stage.server.usage(), time.monotonic() - began
        scripts = after.calls - before.calls
        yield _Idle(
            commands=(after.commands - before.commands + scripts) / seconds,
            scripts=scripts / seconds,
            waits=(stage.server.calls_of(_WAIT) - waits) / seconds,
            beats=(stage.server.calls_of(_BEAT) - beats) / seconds,
            redis_us=max(0.0, (after.cpu_seconds - before.cpu_seconds) / seconds * 1e6 - own_us),
            connections=stage.server.connections(),
            bytes=after.bytes_used - empty.bytes_used,
        )


@contextmanager
def _processes(stage: Stage, size: int, queues: int) -> Iterator[None]:
    path = os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "worker")))
    settings = {"REDIS_URL": stage.server.url, "PYTHONPATH": path}
    with ExitStack() as stack:
        for first in range(0, size, _PER_PROCESS):
            some = min(size - first, _PER_PROCESS)
            command = (sys.executable, "-m", "bench.growth.idle", str(some), str(queues))
            child = stack.enter_context(PeerProcess(f"{some} idle workers", command, settings))
            child.expect("ready", START_SECONDS + some * _START_SECONDS_EACH)
        yield
