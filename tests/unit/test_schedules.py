"""Mistakes that `add_schedule` refuses before it connects to Redis."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from taskfleet import ConfigurationError, PayloadTooLargeError, SerializationError, Task, TaskQueue
from taskfleet.protocol import envelope
from taskfleet.protocol.item import Extras
from taskfleet.protocol.schedules import SpecHead
from taskfleet.scheduling.call import message_of
from taskfleet.scheduling.record import ScheduleSpec

# No server listens at this address, so an attempt to connect would raise another error.
queue = TaskQueue("redis://127.0.0.1:1/0", max_payload_bytes=2000)


@queue.task(queue="reports")
async def report(day: str, copies: int = 1) -> None: ...


class Clean(Task):
    older_than: int

    async def execute(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "kind", "problem"),
    [
        ({"args": [1, 2, 3]}, SerializationError, "task 'report': too many positional arguments"),
        ({"args": []}, SerializationError, "task 'report': missing a required argument: 'day'"),
        ({"kwargs": {"day": "x", "copies": "many"}}, SerializationError, "task 'report', parameter 'copies'"),
        ({"args": ["x" * 3000]}, PayloadTooLargeError, "more than max_payload_bytes=2000"),
        ({"args": "x"}, ConfigurationError, "args='x' is not a list of arguments"),
        ({"task": "unknown", "args": [object()]}, SerializationError, "task 'unknown'"),
        ({"task": Clean, "args": [3]}, ConfigurationError, "task 'clean' is a class: give its fields as kwargs"),
        ({"task": Clean, "args": []}, SerializationError, "task 'clean', field older_than: Field required"),
        ({"task": "clean", "args": [], "kwargs": {"older_than": "x"}}, SerializationError, "field older_than: "),
        ({"task": Clean(older_than=1)}, ConfigurationError, "task 'clean' is an instance: its fields are set"),
        ({"task": 5}, ConfigurationError, "task=5 is not a task; expected a task function, a Task class"),
        ({"task": ""}, ConfigurationError, "task='' is not the name of a task"),
        ({"name": "a b"}, ConfigurationError, "schedule name 'a b' is not valid"),
        ({"schedule": "61 * * * *"}, ConfigurationError, "minute '61' is not valid"),
        ({"schedule": None}, ConfigurationError, "needs either schedule="),
        ({"every": 5}, ConfigurationError, "needs either schedule="),
        ({"schedule": None, "every": 0.1}, ConfigurationError, "every=0.1 is not valid"),
        ({"schedule": None, "every": 5, "time_zone": "UTC"}, ConfigurationError, "time_zone='UTC' has no use with"),
        ({"time_zone": "Mars/Base"}, ConfigurationError, "time_zone 'Mars/Base' is not known"),
        ({"queue": "a b"}, ConfigurationError, "queue name 'a b' is not valid"),
        ({"concurrency_policy": "forbid"}, ConfigurationError, "expected one of Allow, Forbid, Replace"),
        ({"starting_deadline_seconds": 0}, ConfigurationError, "starting_deadline_seconds=0 is not valid"),
        ({"starting_deadline_seconds": float("nan")}, ConfigurationError, "expected a positive number"),
    ],
)  # fmt: skip
async def test_a_bad_schedule_is_refused_when_it_is_added(
    options: dict[str, Any], kind: type[Exception], problem: str
) -> None:
    good: dict[str, Any] = {"name": "s", "schedule": "@daily", "task": report}
    if "kwargs" not in options:
        good["args"] = ["x"]
    with pytest.raises(kind) as caught:
        await queue.add_schedule(**good | options)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "args", "kwargs"),
    [
        (Clean, [], {"older_than": "3"}),
        (Clean(older_than=3), [], {}),
        ("clean", [], {"older_than": 3}),
        ("clean", [{"older_than": 3}], {}),
        ("clean", [], {"task": {"older_than": 3}}),
    ],
)
def test_every_way_to_name_a_class_task_is_the_same_call(task: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    message = message_of(task, args, kwargs, queue.registry)
    blob = message.encode(2000)[1]
    call = envelope.decode(bytes(8) + blob)
    assert call.name == "clean"
    positional, named = message.task.signature.load(call.args, call.kwargs)
    assert [*positional, *named.values()] == [Clean(older_than=3)]


def test_a_function_by_name_is_the_function() -> None:
    one, other = message_of(report, ["x"], {}, queue.registry), message_of("report", ["x"], {}, queue.registry)
    assert one.task is other.task
    assert one.queue == other.queue == "reports"


def spec(**options: Any) -> ScheduleSpec:
    fields: dict[str, Any] = {
        "task": "report", "envelope": b"\x00\xff", "schedule": "@hourly", "every": None, "time_zone": "Asia/Kathmandu",
        "policy": "Forbid", "deadline_ms": 1500, "paused": False,
        "delay_ms": 0, "expires_ms": None, "extras": Extras(),
    }  # fmt: skip
    return ScheduleSpec(**fields | options)


def timing_of(stored: ScheduleSpec) -> str:
    return SpecHead.of_packed(stored.pack()).timing


@pytest.mark.parametrize(
    "stored",
    [
        spec(),
        spec(schedule=None, every=1.5, time_zone="UTC"),
        spec(deadline_ms=None),
        spec(paused=True),
        spec(task="ä"),
        spec(delay_ms=5, expires_ms=7, extras=Extras("ä", limit_key="l")),
    ],
)
def test_a_spec_survives_storing(stored: ScheduleSpec) -> None:
    assert ScheduleSpec.unpack(stored.pack()) == stored


@pytest.mark.parametrize("settings", [{}, {"x": 5.0, "t": 3}])
def test_the_expiry_counts_from_the_tick(settings: dict[str, Any]) -> None:
    packed = envelope.encode("report", ["x", envelope.PydanticJson(b"1")], {"n": 1}, settings)
    call = envelope.decode(bytes(8) + envelope.expiring(packed, 1_000_000, 2_500))
    assert call.settings == {**settings, "x": 1002.5}
    assert (call.name, call.args, call.kwargs) == ("report", ["x", b"1"], {"n": 1})
    assert isinstance(call.args[1], envelope.PydanticJson)
    assert envelope.expiring(packed, 1_000_000, None) is packed


def test_the_same_spec_has_the_same_revision_and_any_other_has_another() -> None:
    others = [spec(envelope=b"x"), spec(deadline_ms=1), spec(policy="Allow"), spec(paused=True), spec(time_zone="UTC")]
    revisions = [SpecHead.of_packed(one.pack()).revision for one in (spec(), *others)]
    assert SpecHead.of_packed(spec().pack()).revision == revisions[0]
    assert len(set(revisions)) == len(revisions)


def test_only_the_time_decides_whether_the_next_tick_stays() -> None:
    same = spec(envelope=b"x", deadline_ms=1, policy="Allow", schedule="0 * * * *")
    assert timing_of(same) == timing_of(spec())
    assert timing_of(spec(time_zone="UTC")) != timing_of(spec())
    every = spec(schedule=None, every=timedelta(minutes=1).total_seconds(), time_zone="UTC")
    assert timing_of(every) == "every 60000 ms"


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x93\x01\x02\x03", b"\x01"])
def test_an_invalid_spec_is_refused(packed: bytes) -> None:
    with pytest.raises(SerializationError, match=r"the schedule (cannot be decoded|has version)"):
        ScheduleSpec.unpack(packed)
