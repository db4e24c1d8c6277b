from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet import SerializationError
from taskfleet.engine import envelope

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.text(min_size=1), st.lists(plain, max_size=4), st.dictionaries(st.text(), plain, max_size=3))
def test_what_is_encoded_is_decoded(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    blob = struct.pack(">d", 12.5) + envelope.encode(name, args, kwargs, {"r": 3})
    assert envelope.decode(blob) == envelope.Envelope(name, args, kwargs, {"r": 3}, 12.5)


@given(st.binary(max_size=200))
def test_anything_else_is_an_error_and_nothing_worse(blob: bytes) -> None:
    try:
        decoded = envelope.decode(blob)
    except SerializationError:
        return
    assert isinstance(decoded.name, str)


def test_a_small_task_takes_few_bytes() -> None:
    assert len(envelope.encode("send_email", ["a@b.c"], {}, {})) < 25


def test_another_version_is_named() -> None:
    with pytest.raises(SerializationError, match="envelope version 9; this worker reads version 1"):
        envelope.decode(b"\0" * 8 + envelope.pack([9, "x", [], {}]))
