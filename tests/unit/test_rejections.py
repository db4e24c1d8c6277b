"""Tasks of a newer version are handed back with growing delays, and the log and the metrics report them."""

from __future__ import annotations

import logging
import struct

import msgpack
import pytest

from taskfleet import NewerVersionError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.sealing import Seal
from taskfleet.runtime.recording.rejections import Refusal, Rejections


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rejections(clock: Clock) -> Rejections:
    return Rejections(Seal(), clock)


def newer(stamp: float, version: int = 9) -> bytes:
    return struct.pack(">d", stamp * 1000) + msgpack.packb([version])


def look(rejections: Rejections, blob: bytes, queue: str = "q") -> Refusal:
    with pytest.raises(SerializationError) as caught:
        envelope.decode(blob)
    found = rejections.look_closer(queue, "id", blob, caught.value)
    assert isinstance(found, Refusal)
    return found


def test_the_delay_grows_with_the_time_that_a_task_has_waited(rejections: Rejections, clock: Clock) -> None:
    def delay_after(seconds: float) -> float:
        return look(rejections, newer(clock.now - seconds)).delay_ms / 1000

    assert 0.375 <= delay_after(0) <= 0.5
    assert 7.5 <= delay_after(100) <= 10
    assert 22.5 <= delay_after(100_000) <= 30


def test_a_handful_of_deliveries_covers_a_rollout(rejections: Rejections, clock: Clock) -> None:
    began, times = clock.now, 0
    while clock.now < began + 600:
        clock.now += look(rejections, newer(began)).delay_ms / 1000
        times += 1
    assert times < 90  # 14 in the first 5 s, then the wait grows by 7.5 % each time: 66 more to 600 s


@pytest.mark.parametrize("stamp", [float("nan"), float("inf"), -1e9, 2e12])
def test_a_stamp_without_sense_counts_as_now(rejections: Rejections, stamp: float) -> None:
    assert 375 <= look(rejections, newer(stamp)).delay_ms <= 500


def test_each_version_is_logged_once_and_a_long_wait_now_and_then(
    rejections: Rejections, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    began = clock.now
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            look(rejections, newer(began))
            look(rejections, newer(began, version=10))
        assert [record.args[1] for record in caplog.records if record.args] == [9, 10]  # type: ignore[index]
        caplog.clear()
        for _ in range(100):
            clock.now += 10
            look(rejections, newer(began))
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == (
        "queue q: a task of envelope version 9 has waited 300 s for a newer worker: start one, or upgrade this one"
    )
    assert len(told) == 3


def test_the_figures_name_queue_and_age_and_forget(rejections: Rejections, clock: Clock) -> None:
    look(rejections, newer(clock.now - 100))
    look(rejections, newer(clock.now - 50))
    look(rejections, newer(clock.now - 7), "other")
    assert rejections.waiting_seconds() == {"q": 100, "other": 7}
    assert rejections.counts == {("q", "newer_version"): 2, ("other", "newer_version"): 1}
    clock.now += 60
    assert rejections.waiting_seconds() == {"q": 100, "other": 7}
    clock.now += 60
    assert rejections.waiting_seconds() == {}


def test_a_signed_task_runs_where_there_are_no_keys(rejections: Rejections) -> None:
    signed = Seal(signing_keys=[b"k" * 32]).close("task", "q", "id", envelope.encode("x", [1], {}, {}))
    blob = bytes(8) + signed
    with pytest.raises(SerializationError) as caught:
        envelope.decode(blob)
    task = rejections.look_closer("q", "id", blob, caught.value)
    assert isinstance(task, envelope.Envelope)
    assert task.args == [1]


def test_an_encrypted_task_without_its_key_is_a_dead_letter(rejections: Rejections) -> None:
    closed = Seal(encryption_keys=[b"k" * 32]).close("task", "q", "id", envelope.encode("x", [1], {}, {}))
    refusal = look(rejections, bytes(8) + closed)
    assert (refusal.reason, refusal.delay_ms) == ("undecodable", 0)
    assert "encrypted with key" in refusal.message


def test_a_newer_version_is_handed_back_by_who_has_keys_too() -> None:
    rejections = Rejections(Seal(signing_keys=[b"k" * 32]))
    blob = newer(0.0)
    with pytest.raises(NewerVersionError) as caught:
        rejections._seal.open_task("q", "id", blob)
    refusal = rejections.look_closer("q", "id", blob, caught.value)
    assert isinstance(refusal, Refusal)
    assert refusal.delay_ms > 0
