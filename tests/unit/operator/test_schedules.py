"""The schedules of a TaskQueue: what is wanted, whose they are, and the difference."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from taskfleet.protocol.partitions import Partition
from taskfleet.protocol.schedules import Entry, ScheduleState
from taskfleet.scheduling.record import ScheduleSpec
from taskfleet_operator import kept_schedules
from taskfleet_operator.control.redis import schedules
from taskfleet_operator.kept_schedules import Owner, WantedSchedule
from taskfleet_operator.resource.taskqueue import TaskQueueResource
from tests.support.manifests import SCHEDULE, changed

OWNER = Owner("shop", "orders", "uid-1")


def queue(*found: dict[str, Any], uid: str = "uid-1", **spec: Any) -> TaskQueueResource:
    body = changed({"spec.schedules": [SCHEDULE | one for one in found]})
    body["metadata"] = {"name": "orders", "namespace": "shop", "uid": uid}
    body["spec"] |= spec
    return TaskQueueResource.model_validate(body)


def entry(one: WantedSchedule, tick_ms: int | None = 5, *, partition: str | None = None, last_ms: int = 0) -> Entry:
    state = ScheduleState(last_ms, "id" if last_ms else "").pack()
    return Entry(Partition(partition or one.partition), one.name, one.packed, state, tick_ms)


def test_a_record_has_its_owner_and_a_record_of_python_is_as_before() -> None:
    (one,) = kept_schedules.wanted_of(queue({"jitterSeconds": 7}))
    assert ScheduleSpec.unpack(one.packed) == one.spec
    assert (one.spec.owner, one.spec.jitter_ms) == ("shop/orders/uid-1", 7000)
    assert Owner.of_entry(entry(one)) == OWNER
    held = dataclasses.replace(one.spec, paused=True, held_ms=77)
    assert ScheduleSpec.unpack(held.pack()) == held


@pytest.mark.parametrize(
    ("schedule", "spec", "paused"),
    [
        ({}, {}, False),
        ({"suspend": True}, {}, True),
        ({}, {"suspend": True}, True),
        ({}, {"scheduler": {"mode": "Disabled"}}, True),
    ],
)
def test_what_suspends_a_schedule(schedule: dict[str, Any], spec: dict[str, Any], paused: bool) -> None:
    (one,) = kept_schedules.wanted_of(queue(schedule, **spec))
    assert one.spec.paused is paused


def test_nothing_is_done_for_what_is_in_line() -> None:
    wanted = kept_schedules.wanted_of(queue({}, {"name": "b"}))
    plan = kept_schedules.plan_of(OWNER, wanted, [entry(one) for one in wanted])
    assert (plan.add, plan.remove, plan.foreign) == ([], [], {})


def test_what_differs_is_replaced_and_what_is_not_wanted_is_removed() -> None:
    before = kept_schedules.wanted_of(queue({}, {"name": "b"}))
    wanted = kept_schedules.wanted_of(queue({"schedule": "@daily"}))
    plan = kept_schedules.plan_of(OWNER, wanted, map(entry, before))
    assert [one.name for one in plan.add] == [wanted[0].name]
    assert [one.name for one in plan.remove] == ["b"]


def test_a_taskqueue_that_is_made_again_has_the_schedules_of_its_predecessor() -> None:
    (before,) = kept_schedules.wanted_of(queue({}, uid="uid-0"))
    (one,) = kept_schedules.wanted_of(queue({}))
    plan = kept_schedules.plan_of(OWNER, [one], [entry(before)])
    assert ([each.spec.owner for each in plan.add], plan.foreign) == (["shop/orders/uid-1"], {})
    assert kept_schedules.plan_of(OWNER, [], [entry(before)]).remove


def test_a_schedule_that_moves_keeps_its_tick_when_its_times_stay() -> None:
    (one,) = kept_schedules.wanted_of(queue({}))
    elsewhere = entry(one, 77, partition="elsewhere")
    plan = kept_schedules.plan_of(OWNER, [one], [elsewhere])
    assert ([each.name for each in plan.add], list(plan.remove)) == ([one.name], [elsewhere])
    assert kept_schedules.next_tick(one, elsewhere, now_ms=1) == 77
    still = dataclasses.replace(elsewhere, tick_ms=None, spec=dataclasses.replace(one.spec, held_ms=88).pack())
    assert kept_schedules.next_tick(one, still, now_ms=1) == 88
    (other,) = kept_schedules.wanted_of(queue({"schedule": "@yearly"}))
    assert kept_schedules.next_tick(other, elsewhere, now_ms=1) == 31_536_000_000
    damaged = dataclasses.replace(elsewhere, spec=one.packed.replace(b"UTC", b"Nix"))
    assert damaged.spec != elsewhere.spec
    assert Owner.of_entry(damaged) == OWNER
    assert kept_schedules.next_tick(other, damaged, now_ms=1) == 31_536_000_000


@pytest.mark.parametrize("owner", ["", "shop/another/uid-9", "elsewhere/orders/uid-1"])
def test_the_schedules_of_others_stay(owner: str) -> None:
    (one,) = kept_schedules.wanted_of(queue({}))
    theirs = dataclasses.replace(one, spec=dataclasses.replace(one.spec, owner=owner))
    plan = kept_schedules.plan_of(OWNER, [one], [entry(theirs)])
    assert (plan.add, plan.remove, list(plan.foreign)) == ([], [], [one.name])
    told = schedules.verdict([one], plan.foreign, [entry(theirs)], 0)
    assert (told.status, told.reason) == (False, "NameTaken")
    assert one.name in told.message
    assert kept_schedules.plan_of(OWNER, [], [entry(theirs)]).remove == []


def test_a_record_that_cannot_be_read_belongs_to_nobody() -> None:
    assert Owner.of_entry(Entry(Partition("default"), "x", b"\xc1", b"", 5)) is None


def test_a_tick_that_nobody_performs_is_told() -> None:
    (one,) = kept_schedules.wanted_of(queue({}))
    now = 10_000_000
    assert schedules.verdict([one], {}, [entry(one, now - 1000)], now).reason == "InSync"
    late = schedules.verdict([one], {}, [entry(one, now - schedules.OVERDUE_MS - 1)], now)
    assert (late.status, late.reason) == (False, "Overdue")
    assert schedules.verdict([], {}, [], now).reason == "NoSchedules"


def test_workers_that_refuse_what_is_not_sealed_are_told_before_a_tick_is_late() -> None:
    (one,) = kept_schedules.wanted_of(queue({}))
    told = schedules.verdict([one], {}, [entry(one, 9)], 0, [f"pod-{n}" for n in range(5)])
    assert (told.status, told.reason) == (False, "NotSealed")
    assert "pod-0, pod-1, pod-2 and 2 more" in told.message
    assert f"add {one.name} with queue.add_schedule()" in told.message
    (still,) = kept_schedules.wanted_of(queue({}, suspend=True))
    assert schedules.verdict([still], {}, [], 0, ["pod-0"]).reason == "InSync"


def test_the_status_tells_the_last_and_the_next_tick() -> None:
    wanted = kept_schedules.wanted_of(queue({}, {"name": "b"}))
    told = schedules.statuses(wanted, [entry(wanted[0], 60_000, last_ms=30_000)])
    assert told == [
        {
            "name": wanted[0].name,
            "lastScheduleTime": "1970-01-01T00:00:30Z",
            "nextScheduleTime": "1970-01-01T00:01:00Z",
        },
        {"name": "b"},
    ]
