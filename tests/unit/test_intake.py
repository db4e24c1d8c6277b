"""Tasks of a newer version are handed back with growing delays, and the log and the metrics report them."""

from __future__ import annotations

import logging
import struct

import msgpack
import pytest

from taskfleet import NewerVersionError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.sealing import Seal
from taskfleet.runtime.rejections import Intake, Refusal


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def intake(clock: Clock) -> Intake:
    return Intake(Seal(), clock)


def newer(stamp: float, version: int = 9) -> bytes:
    return struct.pack(">d", stamp * 1000) + msgpack.packb([version])


def look(intake: Intake, blob: bytes, queue: str = "q") -> Refusal:
    with pytest.raises(SerializationError) as caught:
        envelope.decode(blob)
    found = intake.look_closer(queue, "id", blob, caught.value)
    assert isinstance(found, Refusal)
    return found


def test_the_delay_grows_with_the_time_that_a_task_has_waited(intake: Intake, clock: Clock) -> None:
    def delay_after(seconds: float) -> float:
        return look(intake, newer(clock.now - seconds)).delay_ms / 1000

    assert 0.375 <= delay_after(0) <= 0.5
    assert 7.5 <= delay_after(100) <= 10
    assert 22.5 <= delay_after(100_000) <= 30


def test_a_handful_of_deliveries_covers_a_rollout(intake: Intake, clock: Clock) -> None:
    began, times = clock.now, 0
    while clock.now < began + 600:
        clock.now += look(intake, newer(began)).delay_ms / 1000
        times += 1
    assert times < 90  # 14 in the first 5 s, then the wait grows by 7.5 % each time: 66 more to 600 s


@pytest.mark.parametrize("stamp", [float("nan"), float("inf"), -1e9, 2e12])
def test_a_stamp_without_sense_counts_as_now(intake: Intake, stamp: float) -> None:
    assert 375 <= look(intake, newer(stamp)).delay_ms <= 500


def test_each_version_is_logged_once_and_a_long_wait_now_and_then(
    intake: Intake, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    began = clock.now
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            look(intake, newer(began))
            look(intake, newer(began, version=10))
        assert [record.args[1] for record in caplog.records if record.args] == [9, 10]  # type: ignore[index]
        caplog.clear()
        for _ in range(100):
            clock.now += 10
            look(intake, newer(began))
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == (
        "queue q: a task of envelope version 9 has waited 300 s for a newer worker: start one, or upgrade this one"
    )
    assert len(told) == 3


def test_the_figures_name_queue_and_age_and_forget(intake: Intake, clock: Clock) -> None:
    look(intake, newer(clock.now - 100))
    look(intake, newer(clock.now - 50))
    look(intake, newer(clock.now - 7), "other")
    assert intake.waiting_seconds() == {"q": 100, "other": 7}
    assert intake.counts == {("q", "newer_version"): 2, ("other", "newer_version"): 1}
    clock.now += 60
    assert intake.waiting_seconds() == {"q": 100, "other": 7}
    clock.now += 60
    assert intake.waiting_seconds() == {}


def test_a_signed_task_runs_where_there_are_no_keys(intake: Intake) -> None:
    signed = Seal(signing_keys=[b"k" * 32]).close("task", "q", "id", envelope.encode("x", [1], {}, {}))
    blob = bytes(8) + signed
    with pytest.raises(SerializationError) as caught:
        envelope.decode(blob)
    task = intake.look_closer("q", "id", blob, caught.value)
    assert isinstance(task, envelope.Envelope)
    assert task.args == [1]


def test_an_encrypted_task_without_its_key_is_a_dead_letter(intake: Intake) -> None:
    closed = Seal(encryption_keys=[b"k" * 32]).close("task", "q", "id", envelope.encode("x", [1], {}, {}))
    refusal = look(intake, bytes(8) + closed)
    assert (refusal.reason, refusal.delay_ms) == ("undecodable", 0)
    assert "encrypted with key" in refusal.message


def test_a_newer_version_is_handed_back_by_who_has_keys_too() -> None:
    intake = Intake(Seal(signing_keys=[b"k" * 32]))
    blob = newer(0.0)
    with pytest.raises(NewerVersionError) as caught:
        intake._seal.open_task("q", "id", blob)
    refusal = intake.look_closer("q", "id", blob, caught.value)
    assert isinstance(refusal, Refusal)
    assert refusal.delay_ms > 0
