"""Data from Redis costs memory in proportion to the limits, even if a hostile program has written it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from taskfleet import (
    BadSignatureError,
    NewerVersionError,
    PayloadTooLargeError,
    Progress,
    SerializationError,
    waited_results,
)
from taskfleet.protocol import compression, dead_letter, dead_record, envelope, result_record, unpacking
from taskfleet.protocol.schedules import Entry
from taskfleet.protocol.sealing import Seal
from taskfleet.redis.broker import RedisBroker
from taskfleet.redis.calls.tasks import results_of
from taskfleet.scheduling.record import schedule_of

MIB = 1_048_576
SIGNED = Seal(signing_keys=[b"k" * 32])
STAMP = struct.pack(">d", 1e12)
MANY = 4_000_000
READER = Seal(max_expanded_bytes=4 * MIB)


def empty_maps(number: int = MANY) -> bytes:
    """A packed list of empty maps. Each map takes 72 bytes after it is unpacked."""
    return b"\xdd" + struct.pack(">I", number) + b"\x80" * number


def nested_lists() -> bytes:
    """Forty lists of a hundred thousand empty lists each, so that no single list is too long."""
    inner = b"\xdd" + struct.pack(">I", 100_000) + b"\x90" * 100_000
    return b"\xdd" + struct.pack(">I", 40) + inner * 40


def short_texts() -> bytes:
    inner = b"\xdd" + struct.pack(">I", 100_000) + b"\xa2ab" * 100_000
    return b"\xdd" + struct.pack(">I", 13) + inner * 13


def extensions() -> bytes:
    inner = b"\xdd" + struct.pack(">I", 100_000) + b"\xd4\x05x" * 100_000
    return b"\xdd" + struct.pack(">I", 13) + inner * 13


HOSTILE = {
    "four million maps": empty_maps(),
    "lists in lists": nested_lists(),
    "short texts": short_texts(),
    "extensions": extensions(),
    "in typed form": b"\xc9" + struct.pack(">I", MANY + 5) + b"\x02" + empty_maps(),
    "in JSON": b"\xc9" + struct.pack(">I", 3 * 1_300_000 + 2) + b"\x01[" + b"{}," * 1_300_000 + b"1",
    "behind a seal's head": b"\x95\x02" + empty_maps(),
    "a length that is a lie": b"\xdd\xff\xff\xff\xff",
    "deep": b"\x91" * 5000,
}


def peak_mib(call: Callable[[], Any]) -> float:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_nothing_is_unpacked_that_no_key_vouches_for(data: bytes) -> None:
    def read() -> None:
        with pytest.raises(BadSignatureError):
            SIGNED.open_task("q", "id", STAMP + data)

    assert peak_mib(read) < 15  # slices of the payload's own bytes


def test_a_newer_version_is_recognised_without_being_unpacked() -> None:
    data = b"\x92\x03" + empty_maps()

    def read() -> None:
        with pytest.raises(NewerVersionError):
            SIGNED.open_task("q", "id", STAMP + data)

    assert peak_mib(read) < 15


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_result_of_any_size_is_read_within_bounds(data: bytes) -> None:
    def read() -> None:
        with pytest.raises(SerializationError):
            result_record.unpack_end(b"\x92\xa9succeeded" + data, queue="q", task_id="id", seal=READER)

    assert peak_mib(read) < 70


def test_ten_million_maps_in_place_of_a_result_are_not_unpacked() -> None:
    def read() -> None:
        with pytest.raises(SerializationError):
            result_record.unpack_end(b"\x92\xa9succeeded" + empty_maps(10_000_000), queue="q", task_id="id")

    assert peak_mib(read) < 50


def test_a_result_larger_than_the_readers_limit_can_be_read() -> None:
    record = result_record.pack_success(envelope.pack([b"x" * MIB] * 8))
    assert result_record.unpack_end(record, queue="q", task_id="id") == ("succeeded", [b"x" * MIB] * 8)


def test_one_beyond_sixteen_times_the_limit_is_not_looked_at() -> None:
    with pytest.raises(SerializationError, match=r"at most 16777216 are read here: raise max_payload_bytes"):
        result_record.unpack_end(bytes(17 * MIB), queue="q", task_id="id")


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_dead_letter_says_that_it_is_damaged_and_how(data: bytes) -> None:
    def read() -> None:
        letter = dead_letter.DeadLetter.of_packed("id", data, queue="q")
        assert letter.reason == "unreadable"

    assert peak_mib(read) < 60


def test_a_dead_letter_shows_the_name_of_a_task_whose_arguments_are_not_unpacked() -> None:
    blob = STAMP + b"\x94\x01\xa4work" + empty_maps() + b"\x80"
    packed = msgpack.packb(
        [b"dead", 1, 1, 1e12, blob, dead_record.pack_failure("too_large", "why", ""), b"", b""], use_bin_type=False
    )

    def read() -> None:
        letter = dead_letter.DeadLetter.of_packed("id", packed, queue="q")
        assert (letter.task, letter.reason, letter.error) == ("work", "too_large", "why")

    assert peak_mib(read) < 50


def test_texts_of_a_dead_letter_are_bounded() -> None:
    record = msgpack.packb([b"r" * MIB, b"e" * MIB, b"t" * 100_000], use_bin_type=False)
    for packed in (record, record[: MIB - 200]):
        letter = dead_letter.DeadLetter.of_packed(
            "id", msgpack.packb([b"s" * MIB, 1, 1, 1e12, b"", packed], use_bin_type=False), queue="q"
        )
        texts = (letter.state, letter.reason, letter.error, letter.traceback)
        assert all(len(text) <= most for text, most in zip(texts, (200, 200, 4000, 16_000), strict=True))


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_progress_schedules_signals_and_inputs_are_read_within_bounds(data: bytes) -> None:
    spec = [1, b"revision", b"identity", b"Allow", b"envelope", 0, -1, b"* * * * *", 0.0, b"UTC", b"task", 0, -1, {}]
    packed_spec = msgpack.packb(spec, use_bin_type=False)

    def read() -> None:
        with pytest.raises(SerializationError):
            Progress.of_record(STAMP + data)
        for entry in (Entry("q", "name", data, b"", 1), Entry("q", "name", packed_spec, data, 1)):
            with pytest.raises(SerializationError):
                schedule_of(entry)
        assert RedisBroker.from_url("redis://127.0.0.1:1/0")._signal_of("q", data) is None
        assert results_of(data) == [data[:1]]
        with pytest.raises(SerializationError):
            waited_results.first_argument(1, results_of(data))
        assert result_record.explain("failed", data, queue="q", task_id="id").startswith("failed")

    schedule_of(Entry("q", "name", packed_spec, b"", 1))
    assert peak_mib(read) < 60


@pytest.mark.parametrize(
    ("position", "value"),
    [(3, b"Sometimes"), (4, 5), (6, b"x"), (8, b"x"), (9, 7), (10, None), (11, [1]), (12, b""), (13, {b"u": 1})],
)
def test_a_schedule_with_a_field_of_another_type_is_damaged(position: int, value: Any) -> None:
    spec: list[Any] = [1, b"r", b"i", b"Allow", b"e", 0, -1, b"* * * * *", 0.0, b"UTC", b"task", 0, -1, {}]
    spec[position] = value
    with pytest.raises(SerializationError, match="the schedule"):
        schedule_of(Entry("q", "name", msgpack.packb(spec, use_bin_type=False), b"", 1))


@pytest.mark.parametrize(
    "report", [b"", STAMP, STAMP + b"\x93\xa1x\xc0\xa0", STAMP + b"\x93\x01\x02\x03", b"\x7f" * 40]
)
def test_a_progress_report_of_another_kind_is_a_serialization_error(report: bytes) -> None:
    with pytest.raises(SerializationError, match="the progress report cannot be read"):
        Progress.of_record(report)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_compressed_data_expands_within_bounds(data: bytes) -> None:
    frame = compression.compress(b"\x94\x01\xa4work" + data + b"\x80")
    bomb = envelope.pack([2, 1, b"", b"", frame])

    def read() -> None:
        with pytest.raises(SerializationError):
            READER.open_task("q", "id", STAMP + bomb)

    assert peak_mib(read) < 80


def test_data_that_no_reader_would_expand_is_not_written() -> None:
    seal = Seal(compress=True, max_expanded_bytes=4 * MIB)
    for value in ([0] * MIB, [[1, 2]] * 300_000):
        with pytest.raises(PayloadTooLargeError, match=r"holds more than \d+ .*raise max_payload_bytes"):
            seal.close("task", "q", "id", envelope.pack(value))
    value = [0] * 500_000
    assert envelope.unpack(seal.open("task", "q", "id", seal.close("task", "q", "id", envelope.pack(value)))) == value


@pytest.mark.parametrize("size", [200_000, 30_000])
def test_results_that_one_task_takes_are_bounded_together(size: int) -> None:
    record = b"\x92\xa9succeeded\xdd" + struct.pack(">I", size) + b"\x80" * size
    records = [record] * (20_000_000 // size)

    def read() -> None:
        with pytest.raises(SerializationError, match="holds more than"):
            waited_results.first_argument([1] * len(records), records, seal=READER)

    assert peak_mib(read) < 120


def test_many_results_of_an_ordinary_kind_are_taken() -> None:
    result = [{"name": "x" * 20, "price": n * 1.5, "tags": ["one", "two"]} for n in range(1000)]
    records = [result_record.pack_success(envelope.pack(result))] * 150
    size = sum(map(len, records))
    assert size > 8 * MIB
    waited_results.first_argument([1] * len(records), records)


def test_lists_of_texts_are_read_as_messagepack_writes_them() -> None:
    for texts in ([], [b""], [b"x" * n for n in (0, 1, 31, 32, 255, 256, 65_535, 65_536)], [b"y"] * 70_000):
        for packed in (msgpack.packb(texts), msgpack.packb(texts, use_bin_type=False)):
            assert unpacking.texts(packed) == texts
            for damaged in (packed[:-1], packed + b"x", b"\xc1" + packed):
                with pytest.raises(SerializationError):
                    unpacking.texts(damaged)
