"""The longest script call of each operation, at its largest size, by the SLOWLOG of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.scenarios.stage import Stage
from taskfleet import DeadLetterOptions, QueueOptions
from taskfleet.protocol import dead_record, result_record
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.item import MOST_EDGES, Edge, Extras, Item, Waits
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker

_QUEUE = Partition("q")
_OPTIONS = QueueOptions(_QUEUE, dead_letter=DeadLetterOptions(max_length=10_000_000))
_DONE = result_record.pack_success(b"\x01")
_CANCELLED = result_record.pack_cancelled("cancelled")
_FAILURE = dead_record.pack_failure("exception", "ValueError: no", "")
_SLOWER_THAN_US = 500
_KEPT_MS = 60_000
_LARGE, _LARGE_PAYLOAD = 256, b"x" * 1_000_000


def holding(stage: Stage) -> dict[str, float]:
    """Every operation at its largest, one after the other, by one client on an otherwise idle server.

    `plain_hdel` is none of ours: the longest of the commands that remove as many payloads as `claim_large` from a plain
    hash. The one that frees the last neighbour has the allocator give all of their memory back to the system.
    """
    return asyncio.run(_measured(stage.server.url, stage.load.at_once, stage.load.many))


async def _measured(url: str, n: int, many: int) -> dict[str, float]:
    broker = RedisBroker.from_url(url, command_timeout=60.0)
    redis: Any = broker.client.redis
    await redis.config_set("slowlog-log-slower-than", _SLOWER_THAN_US)
    await redis.config_set("slowlog-max-len", 4096)
    figures: dict[str, float] = {}
    for name, (prepare, run) in _operations(n, many).items():
        await redis.flushall()
        await broker.purge_keys([_QUEUE])  # so that the queue is listed again
        await prepare(broker)
        await redis.slowlog_reset()
        await run(broker)
        entries = await redis.slowlog_get(4096)
        figures[name] = _longest(entries, b"EVAL")
    longest = max(figures.values())
    await redis.flushall()
    for number in range(_LARGE):
        await redis.hset("plain", number, _LARGE_PAYLOAD)
    await redis.slowlog_reset()
    for number in range(_LARGE):
        await redis.hdel("plain", number)
    figures["plain_hdel"] = _longest(await redis.slowlog_get(4096), b"HDEL")
    await broker.close()
    return figures | {"longest": longest, "tasks": float(n)}


def _longest(entries: Sequence[Mapping[str, Any]], command: bytes) -> float:
    """The longest call of a command in the log, in ms."""
    calls = [entry["duration"] / 1000 for entry in entries if bytes(entry["command"]).startswith(command)]
    return max(calls, default=_SLOWER_THAN_US / 1000)


_Step = Callable[[RedisBroker], Awaitable[Any]]


def _operations(n: int, many: int) -> dict[str, tuple[_Step, _Step]]:
    """Name → (preparation, measured operation)."""
    return {
        "claim_large": (lambda b: _fill(b, _LARGE, _LARGE_PAYLOAD), lambda b: _drain(b, "s")),
        "chord": (lambda b: _chord(b, n), lambda b: _drain(b, "s")),
        "dependants": (lambda b: _wide(b, n), _cancel_wide),
        "enqueue": (_nothing, lambda b: _fill(b, n)),
        "purge": (lambda b: _fill(b, many), lambda b: b.purge(_QUEUE)),
        "fail": (lambda b: _fill(b, n), lambda b: _drain(b, "f")),
        "requeue": (lambda b: _dead(b, n), lambda b: b.requeue_dead(_QUEUE, None)),
        "due": (lambda b: _delayed(b, n), lambda b: _drain(b, "s")),
        "leases": (lambda b: _lost(b, n), lambda b: _take_over(b, n)),
        "views": (lambda b: _fill(b, n), _look),
    }


async def _nothing(broker: RedisBroker) -> None:
    await broker.ping()


async def _send(broker: RedisBroker, items: Sequence[Item]) -> None:
    for start in range(0, len(items), CHUNK):
        await broker.enqueue(_QUEUE, items[start : start + CHUNK])


async def _fill(broker: RedisBroker, n: int, blob: bytes = b"x" * 50) -> None:
    await _send(broker, [(f"t{i}", blob, 0, 0, None) for i in range(n)])


async def _drain(broker: RedisBroker, code: str) -> None:
    ended: list[Outcome] = []
    while True:
        reply = await broker.step(_QUEUE, _OPTIONS, "w", CHUNK, ended)
        if reply.signals:
            await broker.relay(_QUEUE)
        record, extra = (_DONE, 0) if code == "s" else (_CANCELLED, _FAILURE)
        ended = [(claim[1], claim[4], code, 0, record, _KEPT_MS, extra) for claim in reply.claims]
        if not (ended or reply.left or reply.signals):
            return


async def _chord(broker: RedisBroker, n: int) -> None:
    await broker.enqueue(_QUEUE, [("last", b"x", 0, 0, Extras(waits=Waits(n, n)))])
    await _send(
        broker, [(f"m{i}", b"x", 0, 0, Extras(edges=[Edge(_QUEUE, "last", i, carries=True)])) for i in range(n)]
    )


async def _wide(broker: RedisBroker, n: int) -> None:
    await _send(broker, [(f"d{i}", b"x", 0, 0, Extras(waits=Waits(1, 0))) for i in range(n)])
    await broker.enqueue(_QUEUE, [("wide", b"x", 0, 0, None)])
    for start in range(0, n, MOST_EDGES):
        edges = [Edge(_QUEUE, f"d{i}", 0, carries=False) for i in range(start, min(n, start + MOST_EDGES))]
        await broker.link(_QUEUE, "wide", edges)


async def _cancel_wide(broker: RedisBroker) -> None:
    await broker.cancel(_QUEUE, "wide", _CANCELLED, _KEPT_MS, "no longer wanted")


async def _dead(broker: RedisBroker, n: int) -> None:
    await _fill(broker, n)
    await _drain(broker, "f")


async def _delayed(broker: RedisBroker, n: int) -> None:
    await _send(broker, [(f"t{i}", b"x", 50, 0, None) for i in range(n)])
    await asyncio.sleep(0.1)


async def _lost(broker: RedisBroker, n: int) -> None:
    await _fill(broker, n)
    brief = replace(_OPTIONS)
    object.__setattr__(brief, "lease_seconds", 1e-3 * n)  # none ends before all are claimed
    while (await broker.step(_QUEUE, brief, "gone", CHUNK, [])).claims:
        pass
    lease = broker.keys_of(_QUEUE).lease
    redis: Any = broker.client.redis
    for start in range(0, n, CHUNK):
        await redis.zadd(lease, dict.fromkeys([f"t{i}" for i in range(start, min(n, start + CHUNK))], 1), xx=True)


async def _take_over(broker: RedisBroker, n: int) -> None:
    for _ in range(n // 100):
        await broker.step(_QUEUE, _OPTIONS, "w", 100, [])


async def _look(broker: RedisBroker) -> None:
    await broker.stats_many([_QUEUE], horizon_ms=60_000)
    await broker.status(_QUEUE, "t0")
