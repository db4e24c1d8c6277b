"""Damaged result records and dead letters."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import BadSignatureError, DeadLetter, NewerVersionError, SerializationError
from taskfleet.protocol import dead_record, envelope, result_record
from taskfleet.protocol.sealing import Seal

KEY = b"k" * 32
ENCRYPTING = Seal(encryption_keys=[KEY])
BLOB = struct.pack(">d", 1000.0) + envelope.encode("send_email", [], {}, {})

packed = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
).map(msgpack.packb)


def letter(**changed: Any) -> bytes:
    """As Redis packs it: everything in the old string type."""
    parts = {"state": "dead", "attempts": 1, "deliveries": 2, "died": 2000, "blob": BLOB, "record": b""} | changed
    parts["record"] = parts["record"] or dead_record.pack_failure("reason", "error", "traceback")
    return msgpack.packb(list(parts.values()), use_bin_type=False)


@given(st.binary(max_size=200) | packed)
def test_a_garbage_result_is_a_typed_error(record: bytes) -> None:
    for seal in (Seal(), Seal(signing_keys=[KEY])):
        try:
            state, _ = result_record.unpack_end(record, queue="q", task_id="id", seal=seal)
        except SerializationError as error:
            message = str(error)
            assert message.startswith("task id: ")
        else:
            assert type(state) is str


def test_additions_of_a_later_version_to_a_result_are_ignored() -> None:
    assert result_record.unpack_end(msgpack.packb(["succeeded", 5, {"more": 1}]), queue="q", task_id="id") == (
        "succeeded",
        5,
    )


def test_a_result_of_a_newer_version_is_told_apart() -> None:
    with pytest.raises(NewerVersionError, match="task id: the result has envelope version 9") as caught:
        result_record.unpack_end(msgpack.packb([9, {}]), queue="q", task_id="id")
    assert caught.value.version == 9


def test_a_result_of_another_task_is_refused() -> None:
    record = ENCRYPTING.close("result", "q", "another", result_record.pack_end("succeeded", "forged"))
    with pytest.raises(BadSignatureError, match="task id: the result cannot be decrypted"):
        result_record.unpack_end(record, queue="q", task_id="id", seal=ENCRYPTING)


@given(st.binary(max_size=200) | packed)
def test_any_dead_letter_can_be_listed(wild: bytes) -> None:
    for seal in (Seal(), Seal(signing_keys=[KEY]), ENCRYPTING):
        for found in (wild, letter(blob=wild), letter(record=wild or b"x"), letter(state=wild)):
            listed = DeadLetter.of_packed("id", found, queue="q", seal=seal)
            assert listed.id == "id"
            assert isinstance(listed.died_at, dt.datetime)
            for text in (listed.task, listed.state, listed.reason, listed.error, listed.traceback):
                assert isinstance(text, str)


@given(*[st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5)] * 3)
def test_figures_that_make_no_sense_do_not_stop_a_listing(attempts: Any, deliveries: Any, died: Any) -> None:
    DeadLetter.of_packed("id", letter(attempts=attempts, deliveries=deliveries, died=died), queue="q")


def test_an_encrypted_dead_letter_can_be_listed_without_its_key() -> None:
    blob = BLOB[:8] + ENCRYPTING.close("task", "q", "id", BLOB[8:])
    record = ENCRYPTING.close("error", "q", "id", dead_record.pack_failure("exception", "secret", "secret"))
    found = letter(blob=blob, record=record)
    listed = DeadLetter.of_packed("id", found, queue="q", seal=ENCRYPTING)
    assert (listed.task, listed.reason, listed.error) == ("send_email", "exception", "secret")
    listed = DeadLetter.of_packed("id", found, queue="q")
    assert (listed.task, listed.reason) == ("?", "unreadable")
    assert "encrypted with key" in listed.error
    assert b"secret" not in found


def test_an_error_that_redis_itself_has_written_is_shown_to_who_has_keys() -> None:
    listed = DeadLetter.of_packed("id", letter(), queue="q", seal=ENCRYPTING)
    assert (listed.task, listed.reason, listed.error) == ("?", "reason", "error")


def test_an_error_text_that_is_not_unicode_is_recorded() -> None:
    record = dead_record.pack_failure("exception", "half a pair: \ud83d", "")
    listed = DeadLetter.of_packed("id", letter(record=record), queue="q")
    assert listed.error == "half a pair: \\ud83d"
