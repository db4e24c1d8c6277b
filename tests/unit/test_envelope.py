"""The envelope's decoder handles any bytes that Redis may hold."""

from __future__ import annotations

import resource
import struct
import time
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskfleet import NewerVersionError, SerializationError
from taskfleet.protocol import envelope
from taskfleet.protocol.envelope import PydanticJson

STAMP = struct.pack(">d", 12.5)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.binary().map(PydanticJson),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
# Unpacked values of any shape, also shapes that Taskfleet never writes.
wild = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
    | st.builds(msgpack.Timestamp, st.integers(0, 2**33), st.integers(0, 999_999_999)),
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.text() | st.integers(0, 99) | st.binary(max_size=4), inner, max_size=4)
    ),
    max_leaves=15,
)
any_settings = st.dictionaries(st.sampled_from("rtxkcz") | st.text(max_size=3), wild, max_size=5)


def decodes_or_refuses(blob: bytes) -> envelope.Envelope | None:
    try:
        task = envelope.decode(blob)
    except SerializationError:
        return None
    # Properties that the worker relies on without a check.
    assert type(task.name) is str
    assert type(task.args) is list
    assert type(task.kwargs) is type(task.settings) is dict
    assert 0 <= task.enqueued_ms < 2.6e14
    for key in task.settings.keys() & set("rtxkc"):
        value = task.settings[key]
        assert key == "t" if value is None else abs(value) <= 1e10
    return task


@given(st.text(min_size=1), st.lists(plain, max_size=4), st.dictionaries(st.text(), plain, max_size=3))
def test_encoding_and_decoding_are_inverse(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    blob = STAMP + envelope.encode(name, args, kwargs, {"r": 3})
    assert envelope.decode(blob) == envelope.Envelope(name, args, kwargs, {"r": 3}, 12.5)


@given(st.binary(max_size=200))
def test_random_bytes_are_an_error_and_nothing_worse(blob: bytes) -> None:
    decodes_or_refuses(blob)
    decodes_or_refuses(STAMP + blob)


@given(st.floats(), wild | st.lists(wild, min_size=3, max_size=7) | st.builds(lambda x: [1, *x], st.lists(wild)))
def test_any_other_messagepack_is_an_error_and_nothing_worse(stamp: float, value: Any) -> None:
    decodes_or_refuses(struct.pack(">d", stamp) + msgpack.packb(value))


@given(st.floats(), any_settings)
@example(12.5, {"x": "never"})
@example(12.5, {"t": float("nan")})
@example(12.5, {"k": float("inf")})
@example(12.5, {"r": True})
@example(12.5, {"r": 2**63})
def test_settings_of_a_wrong_type_do_not_get_as_far_as_the_worker(stamp: float, found: dict[str, Any]) -> None:
    decodes_or_refuses(struct.pack(">d", stamp) + msgpack.packb([1, "x", [], {}, found]))


@given(st.data(), st.lists(plain, max_size=4), st.dictionaries(st.text(), plain, max_size=3))
def test_a_cut_envelope_is_refused(data: st.DataObject, args: list[Any], kwargs: dict[str, Any]) -> None:
    blob = STAMP + envelope.encode("send_email", args, kwargs, {"t": 1.5})
    with pytest.raises(SerializationError):
        envelope.decode(blob[: data.draw(st.integers(0, len(blob) - 1))])


@given(st.data(), st.lists(plain, max_size=4), st.dictionaries(st.text(), plain, max_size=3))
def test_flipped_bits_are_an_error_and_nothing_worse(
    data: st.DataObject, args: list[Any], kwargs: dict[str, Any]
) -> None:
    blob = bytearray(STAMP + envelope.encode("send_email", args, kwargs, {"t": 1.5}))
    for position in data.draw(st.lists(st.integers(0, len(blob) * 8 - 1), min_size=1, max_size=4)):
        blob[position // 8] ^= 1 << position % 8
    decodes_or_refuses(bytes(blob))


def _nested(depth: int, head: bytes) -> bytes:
    return b"\x94\x01\xa1x" + head * depth + b"\xc0" + b"\x80"


HOSTILE = {
    "an empty payload": b"",
    "only half a stamp": b"\0\0\0",
    "only a stamp": STAMP,
    "not a number for a stamp": struct.pack(">d", float("nan")) + envelope.encode("x", [], {}, {}),
    "a stamp at the end of time": struct.pack(">d", 1e300) + envelope.encode("x", [], {}, {}),
    "a stamp before time": struct.pack(">d", -1.0) + envelope.encode("x", [], {}, {}),
    "lists of lists": STAMP + _nested(1_000_000, b"\x91"),
    "maps of maps": STAMP + _nested(1_000_000, b"\x81\xa1k"),
    "a list that says it has four billion elements": STAMP + b"\x94\x01\xa1x\xdd\xff\xff\xff\xff\x80",
    "a map that says it has four billion": STAMP + b"\x94\x01\xa1x\xdf\xff\xff\xff\xff\x80",
    "a string of four gigabytes": STAMP + b"\x94\x01\xdb\xff\xff\xff\xff",
    "bytes of four gigabytes": STAMP + b"\x94\x01\xa1x\xc6\xff\xff\xff\xff",
    "an extension of four gigabytes": STAMP + b"\x94\x01\xa1x\xc9\xff\xff\xff\xff\x01",
    "long lists in long lists": STAMP + (b"\xdd" + struct.pack(">I", 900_000)) * 1000 + b"\xc0" * 1_000_000,
    "a name that is not UTF-8": STAMP + b"\x94\x01\xa2\xff\xfe\x90\x80",
    "a name of half a surrogate pair": STAMP + b"\x94\x01\xa3\xed\xa0\x80\x90\x80",
    "a name that is a number": STAMP + msgpack.packb([1, 2, [], {}]),
    "arguments in a map": STAMP + msgpack.packb([1, "x", {}, {}]),
    "named arguments in a list": STAMP + msgpack.packb([1, "x", [], []]),
    "true for a version": STAMP + msgpack.packb([True, "x", [], {}]),
    "one point nought for a version": STAMP + msgpack.packb([1.0, "x", [], {}]),
    "version 0": STAMP + msgpack.packb([0, "x", [], {}]),
    "version -1": STAMP + msgpack.packb([-1, "x", [], {}]),
    "a giant version": STAMP + msgpack.packb([2**64 - 1, "x", [], {}]),
    "a list for a key": STAMP + b"\x94\x01\xa1x\x90\x81\x90\xc0",
    "a broken timestamp": STAMP + b"\x94\x01\xa1x\x91\xc7\x05\xff\0\0\0\0\0\x80",
    "something behind the end": STAMP + envelope.encode("x", [], {}, {}) + b"\xc0",
    "the byte that messagepack never uses": STAMP + b"\xc1",
    "a pickle": STAMP + b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_payloads_are_refused_in_bounded_time_and_memory(name: str) -> None:
    blob = HOSTILE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()  # of this process: a machine that does other things adds none
    with pytest.raises(SerializationError):
        envelope.decode(blob)
    assert time.process_time() - began < 5
    # KiB. A list is allocated with its stated length, at most the payload's bytes, but unfilled pages cost nothing.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_duplicate_keys_are_no_way_to_show_one_thing_and_run_another() -> None:
    blob = STAMP + b"\x95\x01\xa1x\x90\x82\xa1a\x01\xa1a\x02\x81\xa1r\x01"
    assert envelope.decode(blob).kwargs == {"a": 2}


def test_a_value_as_deep_as_the_encoder_takes_is_decoded() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    assert envelope.decode(STAMP + envelope.encode("x", [deep], {}, {})).args == [deep]
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(ValueError, match="recursion limit"):
        envelope.encode("x", [deep], {}, {})


def test_a_small_task_takes_few_bytes() -> None:
    assert len(envelope.encode("send_email", ["a@b.c"], {}, {})) < 25


# Versions.


@given(st.dictionaries(st.text(min_size=2), plain, max_size=3), st.lists(plain, max_size=3))
def test_compatible_additions_of_a_later_version_are_ignored(more: dict[str, Any], behind: list[Any]) -> None:
    task = envelope.decode(
        STAMP + msgpack.packb([1, "x", [1], {"a": 2}, {"r": 3} | _packable(more), *_packable(behind)])
    )
    assert (task.name, task.args, task.kwargs, task.settings["r"]) == ("x", [1], {"a": 2}, 3)


def _packable(value: Any) -> Any:
    return msgpack.unpackb(envelope.pack(value))


@pytest.mark.parametrize(
    "layout",
    [[9], [9, {"anything": b"else"}], [9, "x", [], {}], [9, 1, 2, 3, 4, 5, 6], [9, {(1, 2): msgpack.ExtType(77, b"")}]],
)
def test_a_newer_version_is_recognised_in_any_layout(layout: list[Any]) -> None:
    with pytest.raises(NewerVersionError, match="envelope version 9, and this program reads up to 2") as caught:
        envelope.decode(STAMP + msgpack.packb(layout))
    assert caught.value.version == 9


def test_a_list_that_is_cut_is_rubbish_and_not_a_newer_version() -> None:
    with pytest.raises(SerializationError) as caught:
        envelope.decode(STAMP + msgpack.packb([9, "x", [], {}])[:-1])
    assert not isinstance(caught.value, NewerVersionError)


@given(st.integers(0, 127), st.lists(plain, max_size=40))
@settings(max_examples=50)
def test_the_version_is_found_in_lists_of_all_sizes(version: int, rest: list[Any]) -> None:
    assert envelope.version_of(envelope.pack([version, *rest])) == version


@pytest.mark.parametrize("data", [b"", b"\x90", b"\x91", b"\xdc", b"\xdc\0\1", b"\xdd\0\0\0\1", b"\x91\xa1x", b"\x01"])
def test_there_is_no_version_where_none_is(data: bytes) -> None:
    assert envelope.version_of(data) is None
