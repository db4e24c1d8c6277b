"""Writing status by merge patch."""

from __future__ import annotations

import asyncio
import copy
import math
from dataclasses import replace
from typing import Any, cast

import pytest

from taskfleet.protocol.stats import QueueStats
from taskfleet_operator.control.api.kubernetes_api import ApiError, KubernetesApi, NotLeadingError, UnreachableError
from taskfleet_operator.control.status import conditions, events
from taskfleet_operator.control.status.conditions import Condition
from taskfleet_operator.control.status.status_fields import fields_of
from taskfleet_operator.control.status.status_writer import StatusWriter, merge_patch
from taskfleet_operator.control.store.cluster_store import ClusterStore
from taskfleet_operator.scaling.sampling import Reading
from tests.unit.autoscaler.builders import first, queue, sample, spec
from tests.unit.operator.builders import STATS

KEY = ("shop", "orders")
READY = Condition("Ready", True, "WorkersReady")


def test_a_removed_field_of_a_nested_mapping_is_null() -> None:
    before = {"replicas": 6, "lastDecision": {"to": 6, "limitedBy": "TooManyReplicas"}, "queues": [1, 2]}
    after = {"replicas": 6, "lastDecision": {"to": 0}, "queues": [1]}
    assert merge_patch(before, after) == {"lastDecision": {"to": 0, "limitedBy": None}, "queues": [1]}


def test_nothing_new_is_an_empty_patch() -> None:
    status = {"replicas": 6, "autoscaler": {"lastDecision": {"to": 6}}}
    assert merge_patch(status, status) == {}


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    def at(now: float, before: list[dict[str, Any]], *wanted: Condition) -> list[dict[str, Any]]:
        return conditions.merge(before, wanted, generation=int(now), now=now)

    (first,) = at(1, [], Condition("Ready", False, "Starting", "0 of 2"))
    assert first["lastTransitionTime"] == "1970-01-01T00:00:01Z"
    (second,) = at(2, [first], Condition("Ready", False, "CrashLoop", "1 of 2"))
    assert second == first | {"reason": "CrashLoop", "message": "1 of 2", "observedGeneration": 2}
    (third,) = at(3, [second], Condition("Ready", None, "Unknown"))
    assert (third["status"], third["lastTransitionTime"]) == ("Unknown", "1970-01-01T00:00:03Z")
    (fourth,) = at(4, [third], Condition("Ready", True, "WorkersReady"))
    assert fourth["lastTransitionTime"] == "1970-01-01T00:00:04Z"
    other = {"type": "Foreign", "status": "True", "lastTransitionTime": "x"}
    assert at(5, [other], Condition("Ready", True, "WorkersReady"))[0] == other, "conditions of others stay"


def test_a_rare_condition_is_not_written_before_it_is_true() -> None:
    assert conditions.merge([], [Condition("QueueShared", False, "Alone", rare=True)], 1, 1.0) == []
    (shared,) = conditions.merge([], [Condition("QueueShared", True, "Shared", rare=True)], 1, 1.0)
    (alone,) = conditions.merge([shared], [Condition("QueueShared", False, "Alone", rare=True)], 2, 2.0)
    assert (alone["status"], alone["lastTransitionTime"]) == ("False", "1970-01-01T00:00:02Z")


def test_the_fields_of_a_look_are_the_figures_of_its_queues() -> None:
    decision = replace(first(sample(queue(name="high")), spec()), desired=3)
    seen = reading(high=replace(STATS, ready=120, in_flight=16, delayed=3, dead=2, oldest_age_seconds=4.9), low=STATS)
    told = fields_of(decision, seen, ["high", "low"], replicas=4, ready=3, selector="a=b", autoscaler={})
    figures = {"name": "high", "backlog": 120, "inFlight": 16, "delayed": 3, "dead": 2, "oldestAgeSeconds": 4}
    assert figures.items() <= told["queues"][0].items()
    assert [one["name"] for one in told["queues"]] == ["high", "low"]
    totals = ("totalBacklog", "totalInFlight", "totalDead", "oldestAgeSeconds")
    assert [told[name] for name in totals] == [127, 18, 3, 4]
    assert [told[name] for name in ("replicas", "readyReplicas", "desiredReplicas", "selector")] == [4, 3, 3, "a=b"]
    without = fields_of(decision, None, ["high", "low"], replicas=4, ready=3, selector="a=b", autoscaler={})
    assert not without.keys() & {"queues", *totals}, "after a failed read the figures stay as they were"


def test_totals_stay_numbers_that_the_api_server_can_read() -> None:
    most = QueueStats.total([replace(STATS, ready=2**53 - 1, dead=2**53 - 1)] * 5000)
    names = [f"q{number}" for number in range(64)]
    decision = first(sample(queue(name="q0")), spec())
    told = fields_of(
        decision, reading(**dict.fromkeys(names, most)), names, replicas=0, ready=0, selector="", autoscaler={}
    )
    assert told["totalBacklog"] == told["totalDead"] == told["queues"][0]["backlog"] == 2**53 - 1


@pytest.mark.parametrize(
    ("rate", "told"), [(40.04, "40.0"), (0.0, "0.0"), (math.inf, "1000000000000.0"), (math.nan, "0.0"), (-3.0, "0.0")]
)
def test_rates_are_decimals_whatever_they_are(rate: float, told: str) -> None:
    decision = first(sample(queue()), spec())
    terms = replace(decision.queues[0], arrivals_per_second=rate, service_seconds=0.48)
    decision = replace(decision, queues=(terms,))
    fields = fields_of(decision, reading(default=STATS), ["default"], replicas=0, ready=0, selector="", autoscaler={})
    assert (fields["queues"][0]["arrivalPerSecond"], fields["queues"][0]["processingSeconds"]) == (told, "0.480")


async def test_a_condition_is_about_the_generation_that_its_writer_has_seen(server: Server) -> None:
    def told() -> dict[str, int]:
        return {one["type"]: one["observedGeneration"] for one in server.body["status"]["conditions"]}

    server.change(generation=4)
    await server.status.write(KEY, {}, [replace(READY, generation=4), Condition("SpecValid", True, "Valid")])
    assert told() == {"Ready": 4, "SpecValid": 4}
    server.change(generation=5)
    await server.status.write(KEY, {"replicas": 1}, [replace(READY, generation=4)])
    assert told() == {"Ready": 4, "SpecValid": 4}, "neither writer has seen the fifth"
    await server.status.insist(KEY, [Condition("SpecValid", False, "Invalid")])
    assert told() == {"Ready": 4, "SpecValid": 5}


def reading(**stats: QueueStats) -> Reading:
    return Reading(stats, {})


class Server:
    """One TaskQueue as the API server has it; `shown()` lets the watch catch up. `unknown` are fields it drops."""

    def __init__(self) -> None:
        self.store = ClusterStore()
        self.writes: list[dict[str, Any]] = []
        self.unknown: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.busy: list[ApiError] = []  # what the next Events are answered with
        self.version = 9  # of two digits next, so that a comparison of texts would be wrong
        self.make("first")
        self.status = StatusWriter(cast("KubernetesApi", self), self.store)

    def make(self, uid: str) -> None:
        self.version += 1
        metadata = {"namespace": "shop", "name": "orders", "uid": uid, "resourceVersion": str(self.version)}
        self.body: dict[str, Any] = {"metadata": metadata, "spec": {}}
        self.shown()

    def shown(self) -> None:
        self.store.put("TaskQueue", copy.deepcopy(self.body))

    def edit(self, **status: Any) -> None:
        self.version += 1
        self.body["metadata"]["resourceVersion"] = str(self.version)
        kept = {name: value for name, value in status.items() if name not in self.unknown}
        merged = self.body.get("status", {}) | kept
        self.body["status"] = {name: value for name, value in merged.items() if value is not None}

    def change(self, generation: int) -> None:
        """Another spec, as the watch shows it."""
        self.body["metadata"]["generation"] = generation
        self.edit()
        self.shown()

    async def patch_status(self, namespace: str, name: str, status: dict[str, Any]) -> dict[str, Any]:
        self.writes.append(status)
        self.edit(**status)
        return copy.deepcopy(self.body)

    async def create_event(self, namespace: str, made: dict[str, Any]) -> None:
        if self.busy:
            raise self.busy.pop()
        self.events.append(made)

    async def told(self) -> list[tuple[str, str, str]]:
        """The Events so far."""
        while posting := self.status.events(KEY).close():
            await asyncio.wait(posting)
        return [(one["type"], one["reason"], one["message"]) for one in self.events]


@pytest.fixture
def server() -> Server:
    return Server()


async def test_a_condition_that_becomes_bad_is_a_warning_once(server: Server) -> None:
    bad = [Condition("SpecValid", False, "Invalid", "spec.x"), Condition("Ready", False, "SpecInvalid", "spec.x")]
    lost = [Condition("Ready", False, "SecretMissing", "secret 'a'")]
    for wanted in ([READY], bad, bad, lost, [READY], bad):
        await server.status.write(KEY, {}, wanted)
    assert await server.told() == [("Warning", "SpecInvalid", "spec.x"), ("Warning", "SecretMissing", "secret 'a'")]


async def test_another_operator_does_not_repeat_a_warning_and_a_new_taskqueue_has_its_own(server: Server) -> None:
    lost = [Condition("Ready", False, "SecretMissing", "secret 'a'")]
    await server.status.write(KEY, {}, lost)
    server.shown()
    assert len(await server.told()) == 1
    server.status = StatusWriter(cast("KubernetesApi", server), server.store)
    await server.status.write(KEY, {"replicas": 1}, lost)
    assert len(await server.told()) == 1
    server.make("second")
    await server.status.write(KEY, {}, lost)
    assert [one["involvedObject"]["uid"] for one in server.events] == ["first"]
    assert len(await server.told()) == 2
    assert server.events[1]["involvedObject"]["uid"] == "second"


async def test_an_event_of_one_that_is_gone_is_not_told_of_its_successor(server: Server) -> None:
    before = server.status.events(KEY)
    server.make("second")
    before.post("ScaledUp", "1 → 2")
    before.warn("DeadLetters", "3 more")
    server.status.events(KEY).post("ScaledUp", "0 → 1")
    assert await server.told() == [("Normal", "ScaledUp", "0 → 1")]
    assert server.events[0]["involvedObject"]["uid"] == "second"


@pytest.mark.parametrize(
    ("error", "posted"),
    [
        (ApiError(429, "not sent"), 1),
        (ApiError(503, "overloaded"), 1),
        (UnreachableError(OSError("gone")), 1),
        (ApiError(403, "the namespace is being terminated"), 0),
        (NotLeadingError("an event"), 0),
    ],
)
async def test_an_event_that_finds_the_api_server_busy_is_posted_later(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: ApiError, posted: int
) -> None:
    monkeypatch.setattr(events, "_PAUSE_SECONDS", 0.0)
    server.busy = [error, error]
    await server.status.write(KEY, {}, [Condition("Ready", False, "SecretMissing", "secret 'a'")])
    assert len(await server.told()) == posted
    assert len(server.busy) == (0 if posted else 1), "what will be refused again is not repeated"


async def test_an_event_that_waits_ends_with_the_term(server: Server) -> None:
    server.busy = [ApiError(503, "overloaded")]
    await server.status.write(KEY, {}, [Condition("Ready", False, "SecretMissing", "secret 'a'")])
    (posting,) = server.status.events(KEY).close()
    async with asyncio.timeout(30):
        while server.busy:  # noqa: ASYNC110 - the fake has no event for it
            await asyncio.sleep(0)
        await server.status.close()
    assert posting.cancelled()
    assert server.events == []


async def test_an_event_is_given_up_after_some_attempts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_PAUSE_SECONDS", 0.0)
    server.busy = [ApiError(503, "overloaded")] * 100
    await server.status.write(KEY, {}, [Condition("Ready", False, "SecretMissing", "secret 'a'")])
    assert await server.told() == []
    assert len(server.busy) == 96


@pytest.mark.parametrize("reason", ["WorkersNotReady", "RolloutWaits", "ReconcileDisabled", "Conflict"])
async def test_what_passes_by_itself_is_no_warning(server: Server, reason: str) -> None:
    await server.status.write(KEY, {}, [Condition("Ready", False, reason, "wait")])
    assert await server.told() == []


async def test_the_next_write_may_come_before_the_watch_shows_the_last_one(server: Server) -> None:
    assert await server.status.write(KEY, {"replicas": 1}, [READY])
    assert not await server.status.write(KEY, {"replicas": 1}, [READY])
    assert await server.status.write(KEY, {"replicas": 2})
    assert [write.get("replicas") for write in server.writes] == [1, 2]


async def test_a_taskqueue_that_was_made_again_gets_its_whole_status(server: Server) -> None:
    await server.status.write(KEY, {"replicas": 1, "selector": "a=b"}, [READY])
    server.shown()
    server.make("second")
    await server.status.write(KEY, {"replicas": 1, "selector": "a=b"}, [READY])
    assert server.body["status"].keys() == {"replicas", "selector", "conditions"}


async def test_the_writer_of_the_one_before_writes_nothing(server: Server) -> None:
    server.make("second")
    assert await server.status.write(KEY, {"replicas": 7}, uid="first") is False
    await server.status.write(KEY, {"readyReplicas": 0}, uid="second")
    assert server.writes == [{"readyReplicas": 0, "conditions": []}]


async def test_an_edited_status_is_put_right_by_any_writer(server: Server) -> None:
    await server.status.write(KEY, {"observedGeneration": 3}, [READY])
    await server.status.write(KEY, {"replicas": 2})
    server.edit(observedGeneration=99, replicas=40, conditions=[])
    server.shown()
    assert await server.status.write(KEY, {"replicas": 2})
    assert (server.body["status"]["observedGeneration"], server.body["status"]["replicas"]) == (3, 2)
    assert [one["type"] for one in server.body["status"]["conditions"]] == ["Ready"]
    server.shown()
    assert not await server.status.write(KEY, {"replicas": 2})


async def test_edited_figures_do_not_wait(server: Server) -> None:
    await server.status.write(KEY, {"totalBacklog": 3}, [READY], patient=True)
    server.shown()
    assert await server.status.write(KEY, {"totalBacklog": 4}, patient=True) is None
    server.edit(totalBacklog=1000)
    server.shown()
    assert await server.status.write(KEY, {"totalBacklog": 4}, patient=True)
    assert server.body["status"]["totalBacklog"] == 4
    server.shown()
    assert await server.status.write(KEY, {"totalBacklog": 5}, patient=True) is None


async def test_a_field_that_the_definition_does_not_know_is_not_written_for_ever(server: Server) -> None:
    server.unknown = {"schedules"}
    await server.status.write(KEY, {"schedules": []}, [READY])
    for _ in range(3):
        server.shown()
        assert not await server.status.write(KEY, {"schedules": []}, [READY])


async def test_figures_wordings_and_times_of_activity_may_wait(server: Server) -> None:
    slow = Condition("ScalingLimited", True, "TooManyReplicas", "for 1 s")
    decided = {"lastDecision": {"time": "t"}}
    await server.status.write(KEY, {"totalBacklog": 1, "autoscaler": {"lastActiveTime": "a"} | decided}, [slow])
    slower = Condition("ScalingLimited", True, "TooManyReplicas", "for 2 s")
    later = {"totalBacklog": 2, "autoscaler": {"lastActiveTime": "b"} | decided}
    assert await server.status.write(KEY, later, [slower], patient=True) is None
    assert await server.status.write(KEY, {"autoscaler": {"lastDecision": {"time": "u"}}}, patient=True)
    assert server.body["status"]["totalBacklog"] == 2, "a write tells everything that has changed"


async def test_conditions_that_are_insisted_on_outlast_other_writers(server: Server) -> None:
    refused = Condition("Ready", False, "SpecInvalid")
    await server.status.insist(KEY, [refused])
    await server.status.write(KEY, {"replicas": 1}, [READY])
    assert server.body["status"]["conditions"][0]["reason"] == "SpecInvalid"
    assert server.status.relent(KEY)
    assert not server.status.relent(KEY)
    await server.status.write(KEY, {})
    assert server.body["status"]["conditions"][0]["reason"] == "WorkersReady"


async def test_who_says_nothing_new_does_not_send_the_figures_that_wait() -> None:
    server = Server()
    valid = Condition("SpecValid", True, "Valid", "every field was understood")
    await server.status.write(KEY, {"observedGeneration": 1}, [valid])
    await server.status.write(KEY, {"totalBacklog": 1}, [READY])
    server.shown()
    assert await server.status.write(KEY, {"totalBacklog": 2}, [READY], patient=True) is None
    before = len(server.writes)
    assert await server.status.write(KEY, {"observedGeneration": 1}, [valid]) is None  # a resync
    assert len(server.writes) == before
    assert await server.status.write(KEY, {"observedGeneration": 2}, [valid]) is True
    assert server.body["status"]["totalBacklog"] == 2


async def test_another_wording_of_a_refusal_is_sent_at_once() -> None:
    server = Server()
    await server.status.insist(KEY, [Condition("SpecValid", False, "Invalid", "spec.a: wrong")])
    server.shown()
    await server.status.insist(KEY, [Condition("SpecValid", False, "Invalid", "spec.b: wrong")])
    (condition,) = server.body["status"]["conditions"]
    assert condition["message"] == "spec.b: wrong"
