"""Everything that a queue holds, as plain Python: of Redis and of the model in the same form."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgpack

from taskfleet.memory.model import QueueModel
from taskfleet.memory.sorted_set import SortedSet
from taskfleet.protocol import attempt_errors
from taskfleet.redis.keys import QUEUE_PARTS, QueueKeys

_READ = {
    "ready": "list", "outbox": "list", "wake": "list",
    "task": "hash", "meta": "hash", "owner": "hash", "letter": "hash", "stat": "hash", "control": "hash",
    "cancel": "hash", "tag": "hash", "unique": "hash", "slots": "hash", "gather": "hash", "input": "hash",
    "progress": "hash", "edges": "hash", "jobs": "list", "errors": "hash",
    "await": "set",
    "lease": "zset", "delayed": "zset", "dead": "zset", "fair": "zset", "turns": "zset", "parked": "zset",
    "arrivals": "zset", "retry_at": "zset", "blocked": "zset",
}  # fmt: skip


async def of_redis(redis: Any, names: QueueKeys) -> dict[str, Any]:
    """Everything that Redis holds of one queue."""
    results = [key async for key in redis.scan_iter(match=names.result("*"), count=10_000)]
    pipeline = redis.pipeline(transaction=False)
    for part, key in zip(QUEUE_PARTS, names, strict=True):
        match _READ[part]:
            case "list":
                pipeline.lrange(key, 0, -1)
            case "hash":
                pipeline.hgetall(key)
            case "set":
                pipeline.smembers(key)
            case _:
                pipeline.zrange(key, 0, -1, withscores=True)
    for key in results:
        pipeline.get(key)
    replies = await pipeline.execute()
    found = dict(zip(QUEUE_PARTS, replies, strict=False))
    kept = {key.decode().removeprefix(names.result("")): value for key, value in
            zip(results, replies[len(QUEUE_PARTS) :], strict=True)}  # fmt: skip
    control = _texts(found["control"])
    return {
        "ready": [task_id.decode() for task_id in found["ready"]],
        "tasks": {key.decode(): blob for key, blob in found["task"].items()},
        "histories": {key: tuple(map(int, value.split(":"))) for key, value in _texts(found["meta"]).items()},
        "tags": {key.decode(): _tag(packed) for key, packed in found["tag"].items()},
        "parked": _parked(found["parked"]),
        "owners": {key: tuple(value.split(":")) for key, value in _texts(found["owner"]).items()},
        "gathering": _gathering(found["gather"]),
        "inputs": {key.decode(): msgpack.unpackb(packed, raw=True) for key, packed in found["input"].items()},
        "reports": {key.decode(): report for key, report in found["progress"].items()},
        "errors": {key.decode(): attempt_errors.unpack(packed) for key, packed in found["errors"].items()},
        "cancelling": sorted(key.decode() for key in found["cancel"]),
        "announced": sorted(key.decode() for key in found["await"]),
        "unique": {key: i for key, i in _texts(found["unique"]).items() if not key.endswith("\0")},
        "followers": {key[:-1]: i for key, i in _texts(found["unique"]).items() if key.endswith("\0")},
        "slots": {key: int(n) for key, n in _texts(found["slots"]).items()},
        "letters": {key.decode(): _letter(packed) for key, packed in found["letter"].items()},
        "results": kept,
        "outbox": [_signal(packed) for packed in found["outbox"]],
        "counts": {key: int(n) for key, n in _texts(found["stat"]).items() if int(n)},
        "paused": "paused" in control,
        "turn": float(control["turn"]) if "turn" in control else None,
        "tokens": float(control["tokens"]) if "tokens" in control else None,
        "filled": int(control.get("filled", 0)),
        "called": len(found["wake"]) > 0,
    } | {
        name: [(member.decode(), score) for member, score in found[part]]
        for name, part in (
            ("leases", "lease"), ("delayed", "delayed"), ("dead", "dead"), ("fair", "fair"), ("turns", "turns"),
            ("arrivals", "arrivals"), ("retry_at", "retry_at"), ("blocked", "blocked"),
        )
    }  # fmt: skip


def of_model(model: QueueModel) -> dict[str, Any]:
    """Everything that the in-memory model of one queue holds."""
    snapshot: dict[str, Any] = {
        "ready": list(model.ready),
        "tasks": dict(model.tasks),
        "histories": {i: (h.attempt, h.delivery, h.crashes, h.since_ms) for i, h in model.histories.items()},
        "tags": {
            task_id: (
                tag.unique,
                tag.limit,
                tag.fair,
                [(e.partition, e.id, e.position, e.carries) for e in tag.edges],
                tag.due,
            )
            for task_id, tag in model.tags.items()
        },
        "parked": {key: list(ids) for key, ids in model.parked.items()},
        "owners": {task_id: (owner, str(delivery)) for task_id, (owner, delivery) in model.owners.items()},
        "gathering": {
            task_id: (g.pending, g.total, g.carried, g.delay_ms, g.came) for task_id, g in model.gathering.items()
        },
        "inputs": dict(model.inputs),
        "reports": dict(model.reports),
        "errors": dict(model.errors),
        "cancelling": sorted(model.cancelling),
        "announced": sorted(model.announced),
        "unique": dict(model.unique),
        "followers": dict(model.followers),
        "slots": {key: n for key, n in model.slots.items() if n},
        "letters": {
            i: (
                x.state,
                x.attempt,
                x.delivery,
                x.died_ms,
                x.blob,
                x.record,
                x.limit,
                x.fair,
                x.inputs,
                x.unique,
                x.errors,
            )
            for i, x in model.letters.items()
        },
        "results": {task_id: record for task_id, (record, _) in model.results.items()},
        "outbox": [tuple(signal)[:6] for signal in model.outbox],
        "counts": {key: n for key, n in model.counts.items() if n},
        "paused": model.paused,
        "turn": model.turn,
        "tokens": model.tokens,
        "filled": model.filled_ms,
        "called": model.calls > 0,
    }
    for name in ("leases", "delayed", "dead", "fair", "turns", "arrivals", "retry_at", "blocked"):
        members: SortedSet = getattr(model, name)
        snapshot[name] = members.items()
    return snapshot


def _texts(flat: dict[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in flat.items()}


def _tag(packed: bytes) -> tuple[Any, ...]:
    tag = msgpack.unpackb(packed, raw=True)
    edges = [(queue.decode(), task_id.decode(), int(position), carries == 1) for queue, task_id, position, carries in
             tag.get(b"n") or ()]  # fmt: skip
    return _text(tag.get(b"u")), _text(tag.get(b"l")), _text(tag.get(b"f")), edges, tag.get(b"d")


def _parked(members: list[tuple[bytes, float]]) -> dict[str, list[str]]:
    parked: dict[str, list[str]] = defaultdict(list)
    for member, _ in members:
        key, _, task_id = member.decode().split("\0")
        parked[key].append(task_id)
    return dict(parked)


def _gathering(flat: dict[bytes, bytes]) -> dict[str, tuple[Any, ...]]:
    waiting = {key: tuple(map(int, value.split(b":"))) for key, value in flat.items() if b":" not in key}
    came: dict[bytes, dict[int, bytes]] = defaultdict(dict)
    for key, value in flat.items():
        task_id, colon, position = key.partition(b":")
        if colon:
            came[task_id][int(position)] = value
    assert came.keys() <= waiting.keys(), "a result for a task that waits no more"
    return {key.decode(): (*record, came.get(key, {})) for key, record in waiting.items()}


def _letter(packed: bytes) -> tuple[Any, ...]:
    state, attempt, delivery, died, blob, record, kept, passed_on, *errors = msgpack.unpackb(packed, raw=True)
    keys = msgpack.unpackb(kept, raw=True) if kept else {}
    inputs = msgpack.unpackb(passed_on, raw=True) if passed_on else None
    before = attempt_errors.unpack(errors[0]) if errors else []
    limit, fair, unique = (_text(keys.get(key)) for key in (b"l", b"f", b"u"))
    return (state.decode(), attempt, delivery, died, blob, record, limit, fair, inputs, unique, before)


def _signal(packed: bytes) -> tuple[Any, ...]:
    queue, task_id, position, source, state, value = msgpack.unpackb(packed, raw=True)
    return queue.decode(), task_id.decode(), position, source.decode(), state.decode(), value


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
