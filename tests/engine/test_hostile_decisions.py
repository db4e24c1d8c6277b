"""Decisions that another program has written: every field, with every value that JSON can hold."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from taskfleet import TaskQueue
from taskfleet.history import decision_record, decisions
from taskfleet.redis.broker import RedisBroker
from taskfleet_dashboard.answers.answer import Answer
from taskfleet_dashboard.reading import explaining, recorded, replaying
from taskfleet_dashboard.refusals import Refused
from taskfleet_operator.autoscaler import replay
from tests.engine.test_decision_history import SCALER, SPEC, keep, looks, record
from tests.engine.test_history import broker_of

ODD: tuple[Any, ...] = (
    10**400, -(10**400), float("inf"), float("nan"), 1e308, -1, 0, 2**63, True, None, "", "\ud800", "1e9",
    [], {}, [[]], {"a": 10**400}, {"\ud800": "\ud800"},
)  # fmt: skip


@pytest.fixture
def broker(queue: TaskQueue) -> RedisBroker:
    return broker_of(queue)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a value of JSON."""
    if place:
        yield place
    if isinstance(value, dict):
        for name, each in value.items():
            yield from places(each, (*place, name))
    elif isinstance(value, list):
        for at, each in enumerate(value):
            yield from places(each, (*place, at))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> bytes:
    found = inner = json.loads(json.dumps(value))
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = new
    return json.dumps(found).encode()


async def shown(broker: RedisBroker) -> None:
    """All that the dashboard makes of the decisions."""
    found = await decisions(broker, SCALER)
    if not found:
        return
    answers: list[Answer] = [
        await recorded.scaler_answer(broker, SCALER, "1h"),
        await recorded.decision_answer(broker, SCALER, found[0].at),
        explaining.explain_answer(SCALER, found[-1]),
    ]
    for changes in ({}, {"targetLatencySeconds": 5}, {"maxReplicas": 50}):
        try:
            answers.append(await replaying.what_if_answer(found, changes))
        except Refused:  # rules that a manifest could not have
            continue
    for answer in answers:
        assert json.loads(answer.model_dump_json().encode())


async def test_no_value_in_a_record_breaks_what_reads_it(broker: RedisBroker) -> None:
    await keep(broker, list(looks(30)))
    key, redis = broker.fleet.decisions(SCALER), broker.client.redis
    whole = (await redis.lrange(key, 0, 0))[0]
    body, state = decision_record.bodies_of(whole[16:], [])
    made = [(changed(json.loads(body), at, odd), state) for at in places(json.loads(body)) for odd in ODD]
    made += [(body, changed(json.loads(state), at, odd)) for at in places(json.loads(state)) for odd in ODD]
    assert len(made) > 1500
    # Several at a time: each is a key frame, and is read as if it were alone.
    for start in range(0, len(made), 50):
        await redis.delete(key)
        entries = [
            whole[:16] + decision_record.KEY_FRAME + zlib.compress(b"\n".join(one)) for one in made[start : start + 50]
        ]
        await redis.rpush(key, *entries)
        await redis.expire(key, 3600)
        await shown(broker)


async def test_a_number_beyond_every_float_is_no_number(broker: RedisBroker) -> None:
    [one] = await keep(broker, list(looks(1)))
    body = json.loads(decision_record.body_of(one))
    body["terms"] = {"a": 10**400, "b": -(10**400), "c": 2**53, "d": 5}
    found = decision_record.read_record(one.at, json.dumps(body).encode(), b'{"started": 1%s}' % (b"0" * 5000))
    assert found.terms == {"c": float(2**53), "d": 5}
    assert found.state == {"started": float("inf")}


@pytest.mark.parametrize("value", [10**400, 2**63, 1000], ids=["beyond floats", "beyond 63 bits", "usual"])
def test_a_what_if_with_any_step_has_an_answer(value: int) -> None:
    policies = [{"type": kind, "value": value, "periodSeconds": 15} for kind in ("Percent", "Pods")]
    rules = {way: {"policies": policies} for way in ("scaleUp", "scaleDown")}
    changes: Mapping[str, Any] = {"behavior": rules, "targetLatencySeconds": 1}
    records = [record(look, with_state=number == 0) for number, look in enumerate(looks(20))]
    found = replay(records, changes)
    assert len(found) == len(records)
    assert 2 < max(one.would for one in found) <= SPEC.max_replicas
