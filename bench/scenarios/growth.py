"""How a claim and the memory of Redis grow with what waits there. Each figure is a point of a curve: `curve.size`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from bench.scenarios.stage import Stage
from taskfleet import QueueOptions
from taskfleet.protocol.bounds import CHUNK
from taskfleet.protocol.item import Edge, Extras, Item, Waits
from taskfleet.protocol.outcome import Outcome
from taskfleet.protocol.partitions import Partition
from taskfleet.redis.broker import RedisBroker

_HERE = Partition("q")
_PLAIN = QueueOptions("q")
_ONE_EACH = QueueOptions("q", concurrency_per_key=1)
_SMALLEST = 1_000
_BLOB = b"x" * 40
_FAR_MS = 86_400_000
_AT_ONCE = CHUNK * 8
_PATIENCE_SECONDS = 60.0

UNITS = {"claim_p50": "µs", "claim_p99": "µs", "claim_cpu": "µs", "claim_commands": "", "bytes_each": "bytes"}
"""The curves: a claim inside Redis by the clock, all that it costs the processor of Redis, and the commands of its
script; the memory of each."""

_Item = Callable[[int], Item]


def decades(first: int, last: int) -> list[int]:
    """`first`, ten times as much, and so on below `last`, and `last` itself."""
    sizes: list[int] = []
    while first < last:
        sizes.append(first)
        first *= 10
    return [*sizes, last]


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


def _callback(size: int) -> Item:
    return "callback", _BLOB, 0, 0, Extras(waits=Waits(size, 0))


def waiting(stage: Stage) -> dict[str, float]:
    """Plain tasks that wait."""
    return _grown(stage, stage.load.growth.waiting, _plain)


def delayed(stage: Stage) -> dict[str, float]:
    """Tasks that are due in a day; the claimed ones are plain tasks beside them."""
    return _grown(stage, stage.load.growth.waiting, _delayed, plain_beside=True)


def fair_keys(stage: Stage) -> dict[str, float]:
    """As many fair keys as tasks: every claim goes on to another key."""
    return _grown(stage, stage.load.growth.keys, _fair)


def limit_keys(stage: Stage) -> dict[str, float]:
    """As many limit keys as tasks, with one slot each."""
    return _grown(stage, stage.load.growth.keys, _limited, _ONE_EACH)


def members(stage: Stage) -> dict[str, float]:
    """Members of one group, for all of which a callback waits."""
    return _grown(stage, stage.load.growth.keys, _member, first=_callback)


def _grown(
    stage: Stage,
    most: int,
    item: _Item,
    options: QueueOptions = _PLAIN,
    *,
    plain_beside: bool = False,
    first: _Item | None = None,
) -> dict[str, float]:
    """The curves of `most` items; `first` makes another item, of their number, which comes before them."""

    async def grow() -> dict[str, float]:
        broker = RedisBroker.from_url(stage.server.url, command_timeout=_PATIENCE_SECONDS)
        figures: dict[str, float] = {}
        for size in decades(min(_SMALLEST, most), most):
            stage.server.flush()
            # One task that has come and gone: the scripts are loaded, and the queue is listed.
            await broker.enqueue(_HERE, [_plain(-1)])
            await _step(broker, options, await _step(broker, options, []))
            empty = stage.server.usage()
            if first is not None:
                await broker.enqueue(_HERE, [first(size)])
            await _fill(broker, item, 0, size)
            figures[f"bytes_each.{size}"] = (stage.server.usage().bytes_used - empty.bytes_used) / size
            if plain_beside:
                await _fill(broker, _plain, size, size + stage.load.growth.claims)
            figures |= await _claims(stage, broker, options, size)
        await broker.close()
        return figures

    return asyncio.run(grow()) | {"tasks": float(most)}


async def _claims(stage: Stage, broker: RedisBroker, options: QueueOptions, size: int) -> dict[str, float]:
    """Some calls of the worker's, each of which records one task and claims another."""
    ended: list[Outcome] = []
    claims = min(stage.load.growth.claims, size)
    stage.server.reset_statistics()
    before = stage.server.usage()
    for _ in range(claims):
        ended = await _step(broker, options, ended)
    after = stage.server.usage()
    p50, p99 = stage.server.script_microseconds()
    return {
        f"claim_p50.{size}": p50,
        f"claim_p99.{size}": p99,
        f"claim_cpu.{size}": (after.cpu_seconds - before.cpu_seconds) / claims * 1e6,
        f"claim_commands.{size}": (after.commands - before.commands) / claims,
    }


async def _fill(broker: RedisBroker, item: _Item, start: int, end: int) -> None:
    for at in range(start, end, _AT_ONCE):
        await broker.enqueue(_HERE, [item(n) for n in range(at, min(end, at + _AT_ONCE))])


async def _step(broker: RedisBroker, options: QueueOptions, ended: Sequence[Outcome]) -> list[Outcome]:
    """Record these ends and claim one task; its own end, to be recorded next."""
    reply = await broker.step(_HERE, options, "w", 1, ended)
    return [(claim[1], claim[4], "s", 0, b"", 0, 0) for claim in reply.claims]
