"""The calls of scripts: as many arguments as the header of the script names, and replies read into records."""

from __future__ import annotations

import re
from typing import Any

import msgpack
import pytest

from taskfleet import QueueOptions
from taskfleet.protocol.claim import CLAIM_ATTEMPT, CLAIM_DELIVERY, CLAIM_ID, CLAIM_INPUTS
from taskfleet.protocol.due import START
from taskfleet.protocol.heartbeat import HeartbeatFields
from taskfleet.protocol.item import Edge, Extras, Item, Waits
from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.rings import QUEUE_RINGS
from taskfleet.protocol.schedules import Entry, Tick
from taskfleet.protocol.sealing import PLAIN
from taskfleet.protocol.signal import Signal
from taskfleet.protocol.task_record import Place
from taskfleet.redis import keys, scripts
from taskfleet.redis.calls import history, inspection, letters, operations, schedules, tasks, workflows
from taskfleet.redis.calls.call import ScriptCall

HERE = Partition("q/3")
NAMES = keys.of_partition("p", HERE)
FLEET = keys.FleetKeys("p")
ITEM: Item = ("id", b"envelope", 0, 0, None)
BEAT = HeartbeatFields("w", 1, 4, 0, "q", "running", 1, 0, "1", 0)
TICK = Tick(Entry(HERE, "s", b"", b"", 5), "rev", 5, 10, False, "id", b"e", 0, Extras("u"), "older", 0)

CALLS: list[ScriptCall[Any]] = [
    tasks.enqueue(NAMES, FLEET, HERE, [ITEM], max_length=0, total=1, sender="s", number=1),
    tasks.step(NAMES, HERE, QueueOptions("q"), incarnation="w", slots=1),
    tasks.status(NAMES, "id", announce=True),
    inspection.inspect(NAMES, ["id", "other"], most_bytes=1, line=1),
    inspection.places(NAMES, "delayed", Place(1.5, b"id"), limit=1),
    tasks.cancel(NAMES, FLEET, "id", record=b"r", ttl_ms=1, reason="why"),
    tasks.progress(NAMES, "w", [("id", 1, b"report")]),
    tasks.renew(NAMES, "w", [("id", 1)], lease_ms=1, busy_ms=1),
    workflows.link(NAMES, "id", [Edge(HERE, "other", 0, carries=True)]),
    workflows.resolve(NAMES, FLEET, Signal(HERE, "id", 0, "other", "succeeded", b""), cancelled_record=b"", told=b""),
    workflows.drain(NAMES, FLEET, HERE),
    operations.stats(NAMES, horizon_ms=1),
    operations.purge(NAMES),
    operations.purge_dead(NAMES),
    letters.discard(NAMES, "job", ["id"], hold_ms=1, room=1, room_bytes=1),
    letters.restore(NAMES, "job", most=1),
    operations.requeue_dead(NAMES, FLEET, HERE, [], passed=0, most=None),
    schedules.add(NAMES, FLEET, "s", b"spec", 1),
    schedules.add(NAMES, FLEET, "s", b"spec", 1, instead_of=b"other"),
    schedules.remove(NAMES, "s"),
    schedules.page(NAMES, b"0", 10),
    schedules.due(NAMES, limit=1, past=START),
    schedules.tick(NAMES, FLEET, TICK, PLAIN),
    inspection.limit_keys(NAMES, b"k", limit=1),
    history.record(NAMES.history, QUEUE_RINGS, b"g", b"t"),
    history.read(NAMES.history, whole=1, first=0, size=1),
]
FLEET_CALLS: list[ScriptCall[Any]] = [
    history.decision(FLEET, "shop/orders", b"d", b"s", history.DecisionBounds(1, 1, 1, 1, 1)),
    history.elect(FLEET, "name", ttl_ms=1),
]


def arguments_of(script: scripts.Script) -> int:
    """The highest number of an argument in the header of a script."""
    header = re.search(r"^-- ARGV(.*?)^-- REPLY", scripts.text_of(script.name), re.MULTILINE | re.DOTALL)
    assert header is not None
    numbers = re.findall(r"(?:^|  |, )(?:-- +)?(\d+) (?:[a-zM']|1 when)", header[1], re.MULTILINE)
    return max(map(int, numbers))


@pytest.mark.parametrize("call", [*CALLS, *FLEET_CALLS], ids=lambda call: call.script.name)
def test_a_call_has_as_many_arguments_as_the_header_of_its_script(call: ScriptCall[Any]) -> None:
    assert len(call.args) == arguments_of(call.script)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.script.name)
def test_all_keys_of_a_call_are_of_one_partition(call: ScriptCall[Any]) -> None:
    assert all(key.startswith("p:{q/3}:") for key in call.keys)


@pytest.mark.parametrize("call", FLEET_CALLS, ids=lambda call: call.script.name)
def test_all_keys_of_a_call_about_the_fleet_are_of_one_slot(call: ScriptCall[Any]) -> None:
    assert all(key.startswith("p:{fleet}:") for key in call.keys)


def test_every_script_has_a_typed_call() -> None:
    named = {call.script.name for call in [*CALLS, *FLEET_CALLS]}
    named.add(tasks.heartbeat(FLEET, "w/0", "w", ttl_ms=1, fields=BEAT).script.name)
    assert named == {script.name for script in vars(scripts).values() if isinstance(script, scripts.Script)}


def test_the_keys_of_a_partition_have_the_names_that_scripts_call_them_by() -> None:
    assert [name if name != "awaited" else "await" for name in NAMES._fields] == list(keys.QUEUE_PARTS)
    assert NAMES.gather == "p:{q/3}:gather"
    assert NAMES.awaited == "p:{q/3}:await"


def test_an_item_is_sent_under_the_letters_that_the_script_reads() -> None:
    extras = Extras("u", "r", "l", "f", "older", b"record", 9, [Edge(HERE, "b", 1, carries=True)], Waits(2, 1, 50))
    call = tasks.enqueue(
        NAMES, FLEET, HERE, [("a", b"e", 1, 2, extras), ITEM], max_length=0, total=2, sender="s", number=1
    )
    with_extras, plain = msgpack.unpackb(call.args[4])
    assert with_extras == [
        "a", "e", 1, 2,
        {"u": "u", "m": "r", "r": "record", "t": 9, "x": "older", "l": "l", "f": "f", "n": [["q/3", "b", 1, 1]],
         "w": [2, 1, 50]},
    ]  # fmt: skip
    assert plain == ["id", "envelope", 0, 0]  # a fifth element that is nil would cost the script
    assert call.keys[-1] == NAMES.result("older")


def test_a_step_reply_becomes_claims_whose_results_may_come_in_pages() -> None:
    few = b"\x92\xa1a\xa1b"
    many = msgpack.packb("700 of 900 in pages")
    claimed = [b"one", b"blob", b"", b"\xff", b"blob", b"", b"two", b"blob", b"3:4:0:0", b"wide", b"blob", b""]
    reply = [5, 2, 7, [b"old"], claimed, [0, few, 3, many], 1, 0, [b"gone", 2, 1, 1, b""], [], 1]
    call = tasks.step(NAMES, HERE, QueueOptions("q"), incarnation="w", slots=9)
    found = call.read(reply)
    claims = found.reply.claims
    # The second id is not one of ours: no worker could acknowledge it.
    assert [claim[CLAIM_ID] for claim in claims] == ["one", "two", "wide"]
    assert [(claim[CLAIM_ATTEMPT], claim[CLAIM_DELIVERY]) for claim in claims] == [(1, 1), (3, 5), (1, 1)]
    assert claims[0][CLAIM_INPUTS] == [b"a", b"b"]
    assert found.paged == [(2, 700)]
    assert found.recorded is None
    assert (found.reply.stale, found.reply.unknown, found.reply.taken_over[0].dead, found.now_ms) == (1, 1, True, 5)


def test_outcomes_without_a_result_are_sent_as_ids() -> None:
    batch = tasks.OutcomeBatch(
        [("a", 1, "s", 2, b"", 0, 0), ("b", 2, "s", 3, b"", 0, 0), ("c", 1, "s", 4, b"record", 60, 0)]
    )
    others, busy_ms, done = batch.packed()
    assert (msgpack.unpackb(done), busy_ms) == (["a"], 2)
    assert [outcome[0] for outcome in msgpack.unpackb(others)] == ["b", "c"]
    assert batch.result_keys(NAMES) == [NAMES.result("c")]
    batch.recorded(1, 1)
    assert batch.packed()[1:] == (0, b"")
