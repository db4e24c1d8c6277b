"""Autoscalers on the dashboard: decisions with their terms, why, and what would have been."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from taskfleet import TaskQueue
from taskfleet.history import record_decision
from taskfleet.redis.broker import RedisBroker
from taskfleet_dashboard.reading.explaining import explain_answer
from taskfleet_dashboard.reading.replaying import summary
from taskfleet_operator.autoscaler.replay import ReplayedDecision
from taskfleet_operator.scaling.decision_notes import record_of
from tests.dashboard.conftest import Site
from tests.engine.test_decision_history import looks

NAME = "shop/orders"


@pytest.fixture
async def recorded(queue: TaskQueue) -> int:
    """Some decisions of a fleet under changing load."""
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    count = 0
    for look in looks(12):
        await record_decision(broker, NAME, record_of(look, look.decision, with_state=True), busy=1)
        count += 1
        await asyncio.sleep(0.002)
    return count


async def test_decisions_are_shown_over_time_and_one_by_one(site: Site, recorded: int) -> None:
    (row,) = (await site.get("overview"))["scalers"]
    assert (row["name"], row["busy"]) == (NAME, 1)
    found = await site.get(f"scalers/{NAME}")
    assert found["name"] == NAME
    assert found["spec"]["maxReplicas"] == 20
    points = found["points"]
    assert [point["at"] for point in points] == sorted(point["at"] for point in points)
    assert points[-1]["terms"]["backlog"] >= 0
    one = await site.get(f"scalers/{NAME}/decisions/{points[-1]['at']}")
    assert {name: one[name] for name in points[-1]} == points[-1]
    assert one["queues"][0]["terms"]["arrivals_per_second"] is not None
    assert one["sample"]
    day = await site.get(f"scalers/{NAME}", span="24h")
    assert day["points"][-1]["desired"] >= 0
    assert (await site.refused(f"scalers/{NAME}/decisions/1999-01-01T00:00:00Z"))[0] == 404
    assert (await site.refused(f"scalers/{NAME}/decisions/yesterday"))[0] == 422
    last = await site.get(f"scalers/{NAME}/decisions/9999-12-31T23:59:59.999999Z")
    assert last["at"] == points[-1]["at"]
    stream = await site.stream(f"scaler:{NAME}")
    assert (await stream.event(f"scaler:{NAME}"))["points"] == points


async def test_the_overview_knows_the_most_workers_of_the_hour_after_they_are_gone(
    site: Site, queue: TaskQueue
) -> None:
    broker = queue.broker
    assert isinstance(broker, RedisBroker)
    assert (await site.get("overview"))["scalers"] == []
    numbers = [(2, "ScaleUpLimit"), (4, "ScaleUpLimit"), (4, "TooManyReplicas"), (4, ""), (0, "")]
    for desired, limit in numbers:
        look = next(iter(looks(1)))
        assert look.decision is not None
        record = replace(
            record_of(look, look.decision, with_state=True), desired=desired, decided=desired, limited_by=limit
        )
        await record_decision(broker, NAME, record)
        await asyncio.sleep(0.005)
    (row,) = (await site.get("overview"))["scalers"]
    points = (await site.get(f"scalers/{NAME}"))["points"]
    assert row["desired"] == 0
    earlier = row["earlier"]
    assert (earlier["desired"], earlier["limited_by"]) == (4, "TooManyReplicas")
    assert (earlier["at"], earlier["until"]) == (points[1]["at"], points[4]["at"])


async def test_the_most_workers_are_not_told_twice_while_they_are_there(site: Site, recorded: int) -> None:
    (row,) = (await site.get("overview"))["scalers"]
    most = max(point["desired"] for point in (await site.get(f"scalers/{NAME}"))["points"])
    assert (row["earlier"] is None) == (row["desired"] == most)


async def test_the_last_decision_is_explained_in_words(site: Site, recorded: int) -> None:
    found = await site.get(f"explain/{NAME}")
    last = (await site.get(f"scalers/{NAME}"))["points"][-1]
    assert (found["desired"], found["at"]) == (last["desired"], last["at"])
    assert str(last["desired"]) in found["why"]
    assert last["message"] in found["why"]
    assert (last["reason"], last["terms"]["backlog"] > 10) == ("DrainTime", True)
    assert f"{last['terms']['backlog']:,.0f} tasks wait" in found["why"]
    lines = {line["name"]: line for line in found["lines"]}
    assert lines["backlog"]["text"] == "ready tasks"
    assert any("maxReplicas 20" in change for change in found["changes"])


def test_a_time_that_is_longer_than_the_target_has_its_reason() -> None:
    look = next(iter(looks(1)))
    assert look.decision is not None
    record = record_of(look, look.decision, with_state=True)
    terms = {**record.terms, "backlog": 1.0, "arrivals_per_second": 0.0, "service_seconds": 0.25}
    slow = {**terms, "start_latency_seconds": 15.0, "effective_drain_seconds": 15.0 * math.e}
    told = explain_answer(NAME, replace(record, reason="DrainTime", terms=slow))
    assert told.why.endswith(
        " 1 task waits, none arrive, each keeps a slot for 0.25 s, and what waits is to be gone in 41 s, as a new "
        "worker takes 15 s to start."
    )
    assert any("A shorter target would change nothing" in each for each in told.changes)
    quick = {**terms, "start_latency_seconds": 1.0, "effective_drain_seconds": 10.0}
    told = explain_answer(NAME, replace(record, reason="DrainTime", terms=quick))
    assert told.why.endswith("and what waits is to be gone in 10 s.")
    assert any("A shorter target wants more workers" in each for each in told.changes)


async def test_what_if_replays_the_hour_with_changed_settings(site: Site, recorded: int) -> None:
    same = await site.post(f"scalers/{NAME}/what-if", {})
    assert all(point["would"] == point["desired"] for point in same["points"])
    assert "the same" in same["summary"]
    fewer: Any = await site.post(f"scalers/{NAME}/what-if", {"maxReplicas": 1})
    assert {point["would"] for point in fewer["points"]} == {1}
    assert "would have been others" in fewer["summary"]
    wrong = await site.post(f"scalers/{NAME}/what-if", {"maxReplicas": -1}, status=422)
    assert "maxReplicas" in wrong["error"]
    assert (await site.post(f"scalers/{NAME}/what-if", {"colour": 1}, status=422))["error"].startswith("colour")


def replayed(desired: int, would: int, limited_by: str = "") -> ReplayedDecision:
    return ReplayedDecision(datetime.now(UTC), desired, desired, would, "DrainTime", "", limited_by)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "No recorded decision can be read."),
        ([replayed(2, 2), replayed(3, 3)], "All 2 decisions of the hour would have been the same."),
        (
            [replayed(2, 2), replayed(2, 8, "TooManyReplicas"), replayed(5, 8, "TooManyReplicas")],
            "2 of 3 decisions would have been others: at most 8 workers in place of 5, 6.0 workers in place of 3.0 on ",
        ),
        (
            [replayed(1, 0), replayed(2, 2)],
            "1 of 2 decisions would have been another: at most 2 workers as before, 1.0 workers in place of 1.5 on av",
        ),
    ],
)
def test_a_replay_is_told_in_sentences(found: list[ReplayedDecision], told: str) -> None:
    assert summary(found).startswith(told)
    held = " maxReplicas would have held 2 of the 3 back." in summary(found)
    assert held == any(each.limited_by for each in found)


def test_what_holds_a_number_and_what_bounds_it_is_among_the_changes() -> None:
    look = next(iter(looks(1)))
    assert look.decision is not None
    record = record_of(look, look.decision, with_state=True)
    spec = {"minReplicas": 1, "maxReplicas": True}
    held = replace(record, decided=4, desired=6, reason="Cooldown", limited_by="", spec={**spec, "maxReplicas": 9})
    assert explain_answer(NAME, held).changes == [
        "The rules give 4; a rollout or a busy worker holds it at 6.",
        "Its bounds are minReplicas 1 and maxReplicas 9.",
    ]
    limited = replace(held, decided=6, limited_by="TooManyReplicas", limit_message="")
    told = explain_answer(NAME, limited)
    assert told.limit == "maxReplicas does not allow more"
    assert told.changes[0] == "A larger maxReplicas would allow more."
    assert explain_answer(NAME, replace(held, decided=6, spec=spec)).changes == []
